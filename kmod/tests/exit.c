// SPDX-License-Identifier: GPL-2.0-only
/*
 * exit.c - replaces what the target module runs last, and two other functions
 *
 * The new exit function says that it ran, and then waits as long as it is told.
 */
#include <linux/delay.h>
#include <linux/proc_fs.h>

#include "kpt.h"

static bool wait;
module_param(wait, bool, 0644);
MODULE_PARM_DESC(wait, "whether the target's exit function does not return");

static noipa void target_exit(void)
{
	remove_proc_entry("kpt_deep", NULL);
	remove_proc_entry("kpt_sleep", NULL);
	remove_proc_entry("kpt_target", NULL);
	pr_info("the target has left by %s\n", KBUILD_MODNAME);
	while (READ_ONCE(wait))
		msleep(20);
}

static noipa int target_value(void)
{
	return 7;
}

static noipa int target_sleep(void)
{
	return 0;
}

static const struct kpatch_func target_funcs[] = {
	{ .name = "target_value", .new_func = target_value },
	{ .name = "target_exit", .new_func = target_exit, .exit = true },
	{ .name = "target_sleep", .new_func = target_sleep },
};

static const struct kpatch_object objects[] = {
	{
		.name = "kpt_target",
		.funcs = target_funcs,
		.nr_funcs = ARRAY_SIZE(target_funcs),
	},
};

KPT_PATCH(objects, KPATCH_LEAVE_PATCHED_SET, KPATCH_SWITCH_KERNEL);
MODULE_DESCRIPTION("Replaces the exit function of a module");

#include "model.h"
