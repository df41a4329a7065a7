// SPDX-License-Identifier: GPL-2.0-only
/*
 * sleep.c - replaces the function that a reader of /proc/kpt_sleep sleeps in
 *
 * The replacement sleeps too, in a helper that it calls last: a tail call,
 * which leaves the helper alone on the stack.
 */
#include <linux/delay.h>
#include <linux/sched/signal.h>

#include "kpt.h"

static bool stay;
module_param(stay, bool, 0644);
MODULE_PARM_DESC(stay, "sleepers mind no signal for as long as this is set");

static noipa int added_helper(void)
{
	while (READ_ONCE(stay))
		msleep(100);
	while (!signal_pending(current))
		msleep_interruptible(1000);
	return -ERESTARTSYS;
}

static noipa int target_sleep(bool deep)
{
	return added_helper();
}

static noipa int target_value(void)
{
	return 2;
}

static const struct kpatch_func funcs[] = {
	{ .name = "target_value", .new_func = target_value },
	{ .name = "target_sleep", .new_func = target_sleep },
};

static const struct kpatch_object objects[] = {
	{ .name = "kpt_target", .funcs = funcs, .nr_funcs = ARRAY_SIZE(funcs) },
};

KPT_PATCH(objects, KPATCH_LEAVE_PATCHED_SET, KPATCH_SWITCH_KERNEL);
MODULE_DESCRIPTION("Replaces a function that sleeps");

#include "model.h"
