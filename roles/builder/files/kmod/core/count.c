// SPDX-License-Identifier: GPL-2.0-only
/*
 * count.c - the model in which calls are counted in and out (M. Hiramatsu)
 *
 * While calls of the patched set are under way, further calls reach the old
 * functions. At a moment when none is, all calls are made new.
 *
 * Calls that are not counted, because they began before or were missed, are
 * waited for by the stacks of their tasks. If one is missed later on, it all
 * begins anew.
 *
 * Locking: kpatch_mutex. A member's universe says whether its task has been
 * outside since this count began; for who writes it, see leave.c.
 */
#include <linux/cpu.h>

#include "calls.h"
#include "core.h"
#include "transition.h"

/* How often a moment without calls is looked for in one step. */
#define TRIES		2000

static bool all_seen_outside;

static int forget(struct kpatch_member *member, void *data)
{
	/*
	 * A task at the border may write after this, truly: it has made no call
	 * yet that is not counted anew. See kpatch_calls_anew().
	 */
	WRITE_ONCE(member->universe, KPATCH_OLD);
	return 0;
}

/* Newborn tasks make counted calls only: they need not be watched for. */
static int begin_anew(void)
{
	all_seen_outside = false;
	kpatch_calls_anew();
	kpatch_each_member(forget, NULL);
	return kpatch_members_again(KPATCH_OLD);
}

static int begin(struct kpatch_transition *transition)
{
	int err;

	kpatch_rule_by(KPATCH_BY_COUNT, KPATCH_OLD);
	kpatch_publish();
	err = kpatch_calls_begin();
	if (err)
		return err;
	kpatch_synchronize_handlers();
	kpatch_leave_towards(KPATCH_NEW);
	return begin_anew();
}

static bool moment_found(void)
{
	unsigned int i;

	for (i = 0; i < TRIES; i++) {
		if (kpatch_calls_switch())
			return true;
		cpu_relax();
	}
	return false;
}

static int step(struct kpatch_transition *transition)
{
	enum kpatch_verdict verdict;
	int err;

	if (kpatch_calls_missed()) {
		err = begin_anew();
		if (err)
			return err;
	}
	if (!all_seen_outside && kpatch_leave_step(transition))
		return -EBUSY;
	all_seen_outside = true;
	if (moment_found())
		return 0;
	transition->why = "there is no moment without a call of its functions";
	verdict = kpatch_check_living(&transition->check, NULL);
	if (verdict != KPATCH_LEFT)
		kpatch_note(transition, verdict);
	return -EBUSY;
}

static int retreat(struct kpatch_transition *transition)
{
	return 0;
}

const struct kpatch_model kpatch_by_counting = {
	.begin = begin,
	.step = step,
	.retreat = retreat,
	.end = kpatch_calls_end,
	.pause_ms = 5,
};
