// SPDX-License-Identifier: GPL-2.0-only
/*
 * faults.c - makes one step of the core fail; built into a test core only
 *
 * Locking: none; a test does one thing at a time. Calls come from everywhere.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/atomic.h>
#include <linux/errno.h>
#include <linux/module.h>

#include "faults.h"

/* Counts down at every point that is passed; the one that makes it 0 fails. */
static int fault_at;
module_param(fault_at, int, 0644);
MODULE_PARM_DESC(fault_at, "which of the points that are passed from now on fails; 0: none");

/* Then fault_at stays 1. */
static bool fault_stays;
module_param(fault_stays, bool, 0644);
MODULE_PARM_DESC(fault_stays, "whether all points after that one fail as well");

int kpatch_fault_at(const char *function, int line)
{
	if (fault_at <= 0)
		return 0;
	if (fault_at > 1) {
		fault_at--;
		return 0;
	}
	if (!fault_stays)
		fault_at = 0;
	pr_info("fault at %s:%d\n", function, line);
	return -ENOMEM;
}

/* That many calls are missed by the probes that count them out. */
static int miss_calls;
module_param(miss_calls, int, 0644);
MODULE_PARM_DESC(miss_calls, "how many calls from now on are not counted out");

notrace bool kpatch_misses_call(void)
{
	int left = READ_ONCE(miss_calls);

	while (left > 0)
		if (try_cmpxchg(&miss_calls, &left, left - 1))
			return true;
	return false;
}

/* As if there had been no memory for it at any time. */
static bool forget_cleared;
module_param(forget_cleared, bool, 0644);
MODULE_PARM_DESC(forget_cleared, "whether all stacks are looked at again while the machine is stopped");

bool kpatch_forgets_cleared(void)
{
	return forget_cleared;
}
