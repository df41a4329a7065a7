// SPDX-License-Identifier: GPL-2.0-only
/*
 * loop.c - replaces the main loop of a kernel thread, which is never left
 *
 * Where nobody has to leave anything the thread goes on in the old loop, and
 * the new one is never called.
 */
#include "kpt.h"

static noipa int kthreadd(void *unused)
{
	return 0;
}

static noipa int target_value(void)
{
	return 3;
}

static const struct kpatch_func vmlinux_funcs[] = {
	{ .name = "kthreadd", .new_func = kthreadd },
};

static const struct kpatch_func target_funcs[] = {
	{ .name = "target_value", .new_func = target_value },
};

static const struct kpatch_object objects[] = {
	{
		.funcs = vmlinux_funcs,
		.nr_funcs = ARRAY_SIZE(vmlinux_funcs),
	}, {
		.name = "kpt_target",
		.funcs = target_funcs,
		.nr_funcs = ARRAY_SIZE(target_funcs),
	},
};

KPT_PATCH(objects, KPATCH_LEAVE_PATCHED_SET, KPATCH_SWITCH_KERNEL);
MODULE_DESCRIPTION("Replaces the main loop of a kernel thread");

#include "model.h"
