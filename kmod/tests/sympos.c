// SPDX-License-Identifier: GPL-2.0-only
/* sympos.c - replaces the second of two functions of one name */
#include "kpt.h"

static noipa int target_twin(void)
{
	return 21;
}

static const struct kpatch_func funcs[] = {
	{ .name = "target_twin", .sympos = 2, .new_func = target_twin },
};

static const struct kpatch_object objects[] = {
	{ .name = "kpt_target", .funcs = funcs, .nr_funcs = ARRAY_SIZE(funcs) },
};

KPT_PATCH(objects, KPATCH_LEAVE_FUNCTION, KPATCH_SWITCH_KERNEL);
MODULE_DESCRIPTION("Replaces the second function of a name");

#include "register.h"
