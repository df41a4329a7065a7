// SPDX-License-Identifier: GPL-2.0-only
/*
 * faults.c - makes one step of the core fail; built into a test core only
 *
 * Locking: none; a test does one thing at a time.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/errno.h>
#include <linux/module.h>

#include "faults.h"

/* Counts down at every point that is passed; the one that makes it 0 fails. */
static int fault_at;
module_param(fault_at, int, 0644);
MODULE_PARM_DESC(fault_at, "which of the points that are passed from now on fails; 0: none");

int kpatch_fault_at(const char *function, int line)
{
	if (fault_at <= 0 || --fault_at)
		return 0;
	pr_info("fault at %s:%d\n", function, line);
	return -ENOMEM;
}
