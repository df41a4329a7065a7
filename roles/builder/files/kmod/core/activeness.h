/* SPDX-License-Identifier: GPL-2.0-only */
/* activeness.h - whether a task is in a function that is about to be switched */
#ifndef _KPATCH_ACTIVENESS_H
#define _KPATCH_ACTIVENESS_H

#include <linux/sched.h>

#include "patch.h"

#define KPATCH_STACK_DEPTH 32

struct kpatch_cleared;

/**
 * enum kpatch_verdict - whether a task has left what it must leave
 * @KPATCH_LEFT:	it has
 * @KPATCH_INSIDE:	it is in a function that it must have left
 * @KPATCH_UNREADABLE:	its stack can't be read reliably, which passes mostly
 * @KPATCH_RUNNING:	it runs, so that its stack can't be read
 * @KPATCH_IN_KERNEL:	it has not been seen leaving the kernel
 */
enum kpatch_verdict {
	KPATCH_LEFT,
	KPATCH_INSIDE,
	KPATCH_UNREADABLE,
	KPATCH_RUNNING,
	KPATCH_IN_KERNEL,
};

/**
 * struct kpatch_check - a question to stacks, and the answer
 * @from:	the universe whose functions must have been left
 * @own:	only the code of patches matters, not what they replace
 * @caller:	the task that wants the switch: it may be in the patch's init
 * @comm:	the task in the way
 * @pid:	its pid; 0 for idle tasks
 * @function:	where it is
 * @object:	in which object that is
 * @stack:	its stack, the innermost frame first
 * @depth:	how many frames of it were recorded
 */
struct kpatch_check {
	enum kpatch_universe from;
	bool own;
	struct task_struct *caller;
	char comm[TASK_COMM_LEN];
	pid_t pid;
	const char *function;
	const char *object;
	unsigned long stack[KPATCH_STACK_DEPTH];
	unsigned int depth;
};

enum kpatch_verdict kpatch_check_stack(struct kpatch_check *check, struct task_struct *task);
enum kpatch_verdict kpatch_check_stopped(struct kpatch_check *check,
					 struct kpatch_cleared *cleared);
enum kpatch_verdict kpatch_check_living(struct kpatch_check *check,
					struct kpatch_cleared *cleared);
void kpatch_name_task(struct kpatch_check *check, const struct task_struct *task);

/* cleared.c */
struct kpatch_cleared *kpatch_cleared_alloc(void);
void kpatch_cleared_free(struct kpatch_cleared *cleared);
void kpatch_cleared_add(struct kpatch_cleared *cleared, struct task_struct *task);
bool kpatch_is_cleared(struct kpatch_cleared *cleared, const struct task_struct *task);

#endif /* _KPATCH_ACTIVENESS_H */
