// SPDX-License-Identifier: GPL-2.0-only
/*
 * consistency.c - which models there are, and why not the others
 *
 * Locking: none; the tables are constant.
 */
#include <linux/kernel.h>
#include <linux/sysfs.h>

#include "core.h"

static const char * const leave_names[] = {
	[KPATCH_LEAVE_FUNCTION] = "function",
	[KPATCH_LEAVE_PATCHED_SET] = "patched_set",
	[KPATCH_LEAVE_KERNEL] = "kernel",
};

static const char * const switch_names[] = {
	[KPATCH_SWITCH_FUNCTION] = "function",
	[KPATCH_SWITCH_THREAD] = "thread",
	[KPATCH_SWITCH_KERNEL] = "kernel",
};

/* Pairs without a reason are given; a pair that is refused means nothing. */
static const char * const refused[][ARRAY_SIZE(switch_names)] = {
	[KPATCH_LEAVE_FUNCTION] = {
		[KPATCH_SWITCH_THREAD] =
			"nobody has to leave anything, so no task ever gets to a moment to switch at",
	},
	[KPATCH_LEAVE_PATCHED_SET] = {
		[KPATCH_SWITCH_FUNCTION] =
			"a task that has left all functions would meet old and new ones anyway",
	},
	[KPATCH_LEAVE_KERNEL] = {
		[KPATCH_SWITCH_FUNCTION] =
			"a task that has left the kernel would meet old and new ones anyway",
	},
};

/**
 * kpatch_check_consistency() - refuse a consistency that can't be given
 * @patch:	what asks for it
 *
 * Return: 0, or a negative error code with a refusal recorded.
 */
int kpatch_check_consistency(const struct kpatch_patch *patch)
{
	const char *name = patch->owner->name, *reason;

	if (patch->leave >= ARRAY_SIZE(leave_names) ||
	    patch->switching >= ARRAY_SIZE(switch_names) || patch->means > KPATCH_BY_COUNTING) {
		kpatch_refuse("the tables of %s are wrong: leave=%u switch=%u means=%u is nothing",
			      name, patch->leave, patch->switching, patch->means);
		return -EINVAL;
	}
	reason = refused[patch->leave][patch->switching];
	if (reason) {
		kpatch_refuse("%s: leave=%s switch=%s is not given: %s", name,
			      leave_names[patch->leave], switch_names[patch->switching], reason);
		return -EOPNOTSUPP;
	}
	if (patch->means == KPATCH_BY_COUNTING &&
	    (patch->leave != KPATCH_LEAVE_PATCHED_SET ||
	     patch->switching != KPATCH_SWITCH_KERNEL)) {
		kpatch_refuse("%s: counting is a means to leave=patched_set switch=kernel only",
			      name);
		return -EOPNOTSUPP;
	}
	return 0;
}

int kpatch_show_consistency(const struct kpatch_patch *patch, char *page)
{
	return sysfs_emit(page, "%s %s%s\n", leave_names[patch->leave],
			  switch_names[patch->switching],
			  patch->means == KPATCH_BY_COUNTING ? " counting" : "");
}
