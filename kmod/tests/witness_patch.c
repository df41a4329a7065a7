// SPDX-License-Identifier: GPL-2.0-only
/*
 * witness_patch.c - turns the arguments of witness_difference() round, in the
 * function and in its caller, by any model
 */
#include "kpt.h"
#include "witness.h"

#ifndef WITNESS_PATCHED
#define WITNESS_PATCHED WITNESS_NEW
#endif

static const bool turned = WITNESS_PATCHED == WITNESS_NEW;

static noipa long new_difference(struct witness_visitor *visitor, long first, long second)
{
	witness_enter(visitor, WITNESS_PATCHED);
	witness_pause(visitor);
	witness_leave(WITNESS_PATCHED);
	return turned ? second - first : first - second;
}

static void ask(struct witness_visitor *visitor)
{
	long first = turned ? WITNESS_SMALLER : WITNESS_LARGER;
	long second = turned ? WITNESS_LARGER : WITNESS_SMALLER;

	witness_step(visitor);
	if (witness_difference(visitor, first, second) != WITNESS_LARGER - WITNESS_SMALLER)
		witness_count(WITNESS_CALL);
}

static noipa void new_caller(struct witness_visitor *visitor)
{
	witness_enter(visitor, WITNESS_PATCHED);
	ask(visitor);
	witness_pause(visitor);
	ask(visitor);
	witness_leave(WITNESS_PATCHED);
}

static const struct kpatch_func caller_funcs[] = {
	{ .name = "witness_caller", .new_func = new_caller },
};

static const struct kpatch_func callee_funcs[] = {
	{ .name = "witness_difference", .new_func = new_difference },
};

static const struct kpatch_object objects[] = {
	{ .name = "kpt_witness", .funcs = caller_funcs, .nr_funcs = ARRAY_SIZE(caller_funcs) },
	{ .name = "kpt_judge", .funcs = callee_funcs, .nr_funcs = ARRAY_SIZE(callee_funcs) },
};

KPT_PATCH(objects, KPATCH_LEAVE_PATCHED_SET, KPATCH_SWITCH_KERNEL);
MODULE_DESCRIPTION("Changes a calling convention");

#include "model.h"
