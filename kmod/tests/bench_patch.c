// SPDX-License-Identifier: GPL-2.0-only
/* bench_patch.c - replaces the first so many functions of bench.c, by any model */
#include "bench.h"
#include "kpt.h"

static uint count = 1;
module_param(count, uint, 0444);
MODULE_PARM_DESC(count, "how many functions to replace");

static uint leave = KPATCH_LEAVE_PATCHED_SET;
module_param(leave, uint, 0444);
MODULE_PARM_DESC(leave, "enum kpatch_leave");

static uint switching = KPATCH_SWITCH_KERNEL;
module_param(switching, uint, 0444);
MODULE_PARM_DESC(switching, "enum kpatch_switch");

static uint means = KPATCH_BY_STOPPING;
module_param(means, uint, 0444);
MODULE_PARM_DESC(means, "enum kpatch_means");

static char names[BENCH_COUNT][BENCH_NAME];
static struct kpatch_func funcs[BENCH_COUNT];

static noipa int bench_new(int value)
{
	return value - 1;
}

static void name_functions(void)
{
	unsigned int i;

	for (i = 0; i < count; i++) {
		snprintf(names[i], BENCH_NAME, "bench_%u", BENCH_FIRST + i);
		funcs[i].name = names[i];
		funcs[i].new_func = bench_new;
	}
}

static struct kpatch_object objects[] = {
	{ .name = "kpt_bench", .funcs = funcs },
};

KPT_PATCH(objects, KPATCH_LEAVE_PATCHED_SET, KPATCH_SWITCH_KERNEL);
MODULE_DESCRIPTION("Replaces up to five hundred functions");

static int __init bench_patch_init(void)
{
	count = min_t(uint, count, BENCH_COUNT);
	name_functions();
	objects[0].nr_funcs = count;
	kpt_patch.leave = leave;
	kpt_patch.switching = switching;
	kpt_patch.means = means;
	return kpatch_register(&kpt_patch);
}

static void __exit bench_patch_exit(void)
{
	kpatch_unregister(&kpt_patch);
}

module_init(bench_patch_init);
module_exit(bench_patch_exit);
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
