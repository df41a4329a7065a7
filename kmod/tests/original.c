// SPDX-License-Identifier: GPL-2.0-only
/* original.c - says of a function what the parameters say, to see whether the core believes it */
#include "kpt.h"

/* ENDBR and the call of ftrace, which the kernel rewrites. */
static const struct kpatch_range masked[] = {
	{ .offset = 0, .length = 9 },
};

static struct kpatch_original original = {
	.size = 10,
	.masked = masked,
	.nr_masked = ARRAY_SIZE(masked),
};

module_param_named(checksum, original.checksum, ullong, 0444);
MODULE_PARM_DESC(checksum, "what the function's bytes sum up to");
module_param_named(size, original.size, uint, 0444);
MODULE_PARM_DESC(size, "how many there are");

static noipa int target_value(void)
{
	return 5;
}

static const struct kpatch_func funcs[] = {
	{ .name = "target_value", .new_func = target_value, .original = &original },
};

static const struct kpatch_object objects[] = {
	{ .name = "kpt_target", .funcs = funcs, .nr_funcs = ARRAY_SIZE(funcs) },
};

KPT_PATCH(objects, KPATCH_LEAVE_PATCHED_SET, KPATCH_SWITCH_KERNEL);
MODULE_DESCRIPTION("Says what a function looks like");

#include "register.h"
