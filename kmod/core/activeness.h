/* SPDX-License-Identifier: GPL-2.0-only */
/* activeness.h - whether a task is in a function that is about to be switched */
#ifndef _KPATCH_ACTIVENESS_H
#define _KPATCH_ACTIVENESS_H

#include <linux/sched.h>

#include "patch.h"

#define KPATCH_STACK_DEPTH 32

/**
 * struct kpatch_check - a question to all stacks, and the answer
 * @lpatch:	the patch, its objects attached
 * @enable:	whether the original functions must have been left, or the new
 * @caller:	the task that wants the switch: it may be in the patch's init
 * @comm:	the task in the way
 * @pid:	its pid; 0 for idle tasks
 * @function:	where it is
 * @object:	in which object that is
 * @stack:	its stack, the innermost frame first
 * @depth:	how many frames of it were recorded
 */
struct kpatch_check {
	struct live_patch *lpatch;
	bool enable;
	struct task_struct *caller;
	char comm[TASK_COMM_LEN];
	pid_t pid;
	const char *function;
	const char *object;
	unsigned long stack[KPATCH_STACK_DEPTH];
	unsigned int depth;
};

int kpatch_check_tasks(struct kpatch_check *check);

#endif /* _KPATCH_ACTIVENESS_H */
