// SPDX-License-Identifier: GPL-2.0-only
/*
 * thread.c - the model in which each task switches by itself, once it may
 *
 * Locking: the caller holds kpatch_mutex.
 */
#include "core.h"
#include "transition.h"

/* Nobody's universe changes with everyone's: each task has one of its own. */
static void switch_everyone(enum kpatch_universe universe)
{
	kpatch_rule_by(KPATCH_BY_TASK, universe);
	kpatch_synchronize_handlers();
	kpatch_members_complete();
}

static int begin(struct kpatch_transition *transition)
{
	int err;

	kpatch_rule_by(KPATCH_BY_TASK, KPATCH_OLD);
	err = kpatch_members_begin(KPATCH_OLD, NULL);
	if (err)
		return err;
	kpatch_synchronize_handlers();
	kpatch_publish();
	kpatch_leave_towards(KPATCH_NEW);
	switch_everyone(KPATCH_NEW);
	return 0;
}

static int retreat(struct kpatch_transition *transition)
{
	int err;

	err = kpatch_members_begin(KPATCH_NEW, NULL);
	if (err) {
		/* Who has been added is where it was; nobody turns before all are there. */
		kpatch_members_complete();
		return err;
	}
	kpatch_leave_towards(KPATCH_OLD);
	switch_everyone(KPATCH_OLD);
	return -EBUSY;
}

const struct kpatch_model kpatch_by_thread = {
	.begin = begin,
	.step = kpatch_leave_step,
	.retreat = retreat,
	.pause_ms = 20,
};
