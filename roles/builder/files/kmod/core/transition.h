/* SPDX-License-Identifier: GPL-2.0-only */
/* transition.h - one transition, for the files that carry it out */
#ifndef _KPATCH_TRANSITION_H
#define _KPATCH_TRANSITION_H

#include "activeness.h"
#include "universe.h"

/**
 * struct kpatch_transition - the switch of one patch that is under way
 * @lpatch:	the patch that was asked for; others go with it if it replaces
 * @enable:	what was asked for
 * @model:	how it is done
 * @check:	the last question to a stack
 * @cleared:	tasks that need no second look when the machine is stopped
 * @blocker:	who is in the way
 * @verdict:	what is wrong with that task
 * @why:	what is in the way if no task is
 * @target:	the universe that everything is on its way to
 * @pressing:	half of the time is over: sleepers are woken
 * @steps:	how many there were
 * @remaining:	tasks that were in the way at the last step
 */
struct kpatch_transition {
	struct live_patch *lpatch;
	bool enable;
	const struct kpatch_model *model;
	struct kpatch_check check;
	struct kpatch_cleared *cleared;
	struct kpatch_check blocker;
	enum kpatch_verdict verdict;
	const char *why;
	enum kpatch_universe target;
	bool pressing;
	unsigned int steps;
	unsigned int remaining;
};

/**
 * struct kpatch_model - how a transition is carried out; all under kpatch_mutex
 * @begin:	ends with the functions on their sites, still without effect
 * @step:	0 once all is in the target universe, -EBUSY if it isn't yet
 * @retreat:	0 once all is in the old universe again, -EBUSY if that takes
 *		further steps; after any other error nothing has changed and it
 *		is called again
 * @end:	once no call asks for its universe any more; may be NULL
 * @patience_ms: how long to try; 0: what sysfs says
 * @pause_ms:	between steps
 */
struct kpatch_model {
	int (*begin)(struct kpatch_transition *transition);
	int (*step)(struct kpatch_transition *transition);
	int (*retreat)(struct kpatch_transition *transition);
	void (*end)(void);
	unsigned int patience_ms;
	unsigned int pause_ms;
};

extern const struct kpatch_model kpatch_at_once, kpatch_by_stopping, kpatch_by_thread,
				 kpatch_by_counting, kpatch_by_parking;

/* transition.c */
void kpatch_publish(void);
void kpatch_note(struct kpatch_transition *transition, enum kpatch_verdict verdict);

/* stop.c */
enum kpatch_verdict kpatch_stop(struct kpatch_transition *transition,
				int (*while_stopped)(void *transition));

/* leave.c */
void kpatch_leave_towards(enum kpatch_universe universe);
int kpatch_leave_step(struct kpatch_transition *transition);

/* border.c */
void kpatch_ask_at_border(struct kpatch_member *member, bool wake);
void kpatch_withdraw_from_border(void);
void kpatch_at_border(void (*arrived)(struct kpatch_member *member));
bool kpatch_goes_to_user_mode(const struct task_struct *task);

#endif /* _KPATCH_TRANSITION_H */
