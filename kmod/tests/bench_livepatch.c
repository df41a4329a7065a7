// SPDX-License-Identifier: GPL-2.0-only
/* bench_livepatch.c - what bench_patch.c does, by the kernel's own live patching */
#include <linux/livepatch.h>

#include "bench.h"
#include "kpt.h"

static uint count = 1;
module_param(count, uint, 0444);
MODULE_PARM_DESC(count, "how many functions to replace");

static char names[BENCH_COUNT][BENCH_NAME];
static struct klp_func funcs[BENCH_COUNT + 1];

static noipa int bench_new(int value)
{
	return value - 1;
}

static void name_functions(void)
{
	unsigned int i;

	for (i = 0; i < count; i++) {
		snprintf(names[i], BENCH_NAME, "bench_%u", BENCH_FIRST + i);
		funcs[i].old_name = names[i];
		funcs[i].new_func = bench_new;
	}
}

static struct klp_object objects[] = {
	{ .name = "kpt_bench", .funcs = funcs },
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objects,
};

static int __init bench_livepatch_init(void)
{
	count = min_t(uint, count, BENCH_COUNT);
	name_functions();
	return klp_enable_patch(&patch);
}

static void __exit bench_livepatch_exit(void)
{
}

module_init(bench_livepatch_init);
module_exit(bench_livepatch_exit);
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
MODULE_DESCRIPTION("Replaces up to five hundred functions the kernel's own way");
