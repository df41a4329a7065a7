/* SPDX-License-Identifier: GPL-2.0-only */
/* universe.h - which functions a call reaches while a transition is under way */
#ifndef _KPATCH_UNIVERSE_H
#define _KPATCH_UNIVERSE_H

#include <linux/list.h>
#include <linux/task_work.h>

#include "patch.h"

/**
 * enum kpatch_rule - what decides the universe of a call
 * @KPATCH_BY_FLAG:	one flag for everything
 * @KPATCH_BY_FUNCTION:	the function
 * @KPATCH_BY_TASK:	the task
 * @KPATCH_BY_COUNT:	whether calls of the old universe are under way
 */
enum kpatch_rule {
	KPATCH_BY_FLAG,
	KPATCH_BY_FUNCTION,
	KPATCH_BY_TASK,
	KPATCH_BY_COUNT,
};

/* A task that was there when a transition began; border.c has the last four. */
struct kpatch_member {
	struct hlist_node node;
	struct task_struct *task;
	enum kpatch_universe universe;
	struct callback_head resume;
	struct callback_head signal;
	unsigned long pending;
	bool parked;
};

void kpatch_rule_by(enum kpatch_rule rule, enum kpatch_universe everyone);
enum kpatch_universe kpatch_universe_of_call(struct live_func *func);

int kpatch_members_begin(enum kpatch_universe universe, void (*newborn)(struct kpatch_member *));
int kpatch_members_again(enum kpatch_universe universe);
bool kpatch_members_missed(void);
void kpatch_members_complete(void);
void kpatch_members_end(void);
int kpatch_each_member(int (*visit)(struct kpatch_member *member, void *data), void *data);

#endif /* _KPATCH_UNIVERSE_H */
