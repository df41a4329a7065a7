// SPDX-License-Identifier: GPL-2.0-only
/*
 * park.c - the model in which everything is parked at the border, then switched
 *
 * Every task that goes to user mode is held there, where it holds nothing. When
 * all are, the machine is stopped for a moment to see that it is so and to flip
 * the flag, and they are let go.
 *
 * Locking: kpatch_mutex. A task writes its own member's @parked.
 */
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/ktime.h>
#include <linux/wait.h>

#include "core.h"
#include "transition.h"

/* Who sleeps is woken soon, because the others are held meanwhile. */
#define STEPS_BEFORE_WAKING 2

static DECLARE_WAIT_QUEUE_HEAD(parked);
static bool released;

/* At the border. Who is killed goes on, and is waited for until it is dead. */
static void park(struct kpatch_member *member)
{
	/* Its parent waits in the kernel until it calls exec() or exits. */
	if (current->vfork_done)
		return;
	WRITE_ONCE(member->parked, true);
	wait_event_killable(parked, READ_ONCE(released));
	WRITE_ONCE(member->parked, false);
}

static void newborn(struct kpatch_member *member)
{
	if (kpatch_goes_to_user_mode(member->task))
		kpatch_ask_at_border(member, false);
}

static void release(void)
{
	WRITE_ONCE(released, true);
	wake_up_all(&parked);
}

static int begin(struct kpatch_transition *transition)
{
	int err;

	released = false;
	kpatch_at_border(park);
	err = kpatch_members_begin(KPATCH_OLD, newborn);
	if (err) {
		/* Newborn tasks may be parked already. */
		release();
		return err;
	}
	kpatch_publish();
	return 0;
}

/* As good as that: who never goes there, or waits for the end of the transition. */
static bool is_at_border(const struct kpatch_member *member)
{
	struct task_struct *task = member->task;

	return READ_ONCE(member->parked) || !kpatch_goes_to_user_mode(task) ||
	       kpatch_task_dead(task) || task_is_stopped(task) || kpatch_waits(task);
}

static int ask(struct kpatch_member *member, void *data)
{
	struct kpatch_transition *transition = data;

	if (is_at_border(member))
		return 0;
	transition->check.depth = 0;
	kpatch_name_task(&transition->check, member->task);
	kpatch_note(transition, KPATCH_IN_KERNEL);
	kpatch_ask_at_border(member, transition->steps > STEPS_BEFORE_WAKING);
	return 0;
}

static int is_missing(struct kpatch_member *member, void *data)
{
	return is_at_border(member) ? 0 : -EBUSY;
}

static int while_stopped(void *data)
{
	u64 start = ktime_get_mono_fast_ns();
	struct kpatch_transition *transition = data;
	enum kpatch_verdict verdict = KPATCH_IN_KERNEL;

	transition->check.depth = 0;
	if (!kpatch_members_missed() && !kpatch_each_member(is_missing, NULL))
		verdict = kpatch_check_stopped(&transition->check, transition->cleared);
	if (verdict == KPATCH_LEFT)
		kpatch_rule_by(KPATCH_BY_FLAG, KPATCH_NEW);
	transition->lpatch->window_ns = ktime_get_mono_fast_ns() - start;
	return verdict;
}

static int step(struct kpatch_transition *transition)
{
	enum kpatch_verdict verdict;

	/* Tasks for which there was no memory when they were born. */
	if (kpatch_members_missed() && kpatch_members_again(KPATCH_OLD))
		return -ENOMEM;
	kpatch_each_member(ask, transition);
	if (transition->remaining)
		return -EBUSY;
	verdict = kpatch_stop(transition, while_stopped);
	if (verdict != KPATCH_LEFT) {
		kpatch_note(transition, verdict);
		return -EBUSY;
	}
	release();
	return 0;
}

static int retreat(struct kpatch_transition *transition)
{
	release();
	return 0;
}

const struct kpatch_model kpatch_by_parking = {
	.begin = begin,
	.step = step,
	.retreat = retreat,
	.pause_ms = 10,
};
