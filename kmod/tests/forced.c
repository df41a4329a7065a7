// SPDX-License-Identifier: GPL-2.0-only
/* forced.c - replaces the function that a reader of /proc/kpt_sleep sleeps in, under its feet */
#include "kpt.h"

static noipa int target_sleep(void)
{
	return 0;
}

static noipa int target_value(void)
{
	return 4;
}

static const struct kpatch_func funcs[] = {
	{ .name = "target_sleep", .new_func = target_sleep, .force = true },
	{ .name = "target_value", .new_func = target_value },
};

static const struct kpatch_object objects[] = {
	{ .name = "kpt_target", .funcs = funcs, .nr_funcs = ARRAY_SIZE(funcs) },
};

KPT_PATCH(objects, KPATCH_LEAVE_PATCHED_SET, KPATCH_SWITCH_KERNEL);
MODULE_DESCRIPTION("Replaces a function in which a task sleeps");

#include "register.h"
