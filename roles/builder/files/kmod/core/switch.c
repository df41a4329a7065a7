// SPDX-License-Identifier: GPL-2.0-only
/*
 * switch.c - models that switch everything by one flag
 *
 * At once: nobody has to leave anything before; but a patch that goes has to be
 * left before it may be unloaded. By stopping: the machine is stopped, the
 * stacks are checked, the flag is flipped. Everything slow is done before and
 * after.
 *
 * Locking: the caller holds kpatch_mutex.
 */
#include <linux/ktime.h>

#include "core.h"
#include "transition.h"

static int begin_by_flag(struct kpatch_transition *transition)
{
	kpatch_publish();
	return 0;
}

/* Machine-wide: whoever calls from here on is in @universe. */
static int flip(enum kpatch_universe universe)
{
	kpatch_rule_by(KPATCH_BY_FLAG, universe);
	return 0;
}

static int while_stopped(void *data)
{
	u64 start = ktime_get_mono_fast_ns();
	struct kpatch_transition *transition = data;
	enum kpatch_verdict verdict;

	verdict = kpatch_check_stopped(&transition->check, transition->cleared);
	if (verdict == KPATCH_LEFT)
		flip(KPATCH_NEW);
	transition->lpatch->window_ns = ktime_get_mono_fast_ns() - start;
	return verdict;
}

static int step_by_stopping(struct kpatch_transition *transition)
{
	enum kpatch_verdict verdict = kpatch_stop(transition, while_stopped);

	if (verdict == KPATCH_LEFT)
		return 0;
	kpatch_note(transition, verdict);
	return -EBUSY;
}

static int retreat_by_flag(struct kpatch_transition *transition)
{
	return flip(KPATCH_OLD);
}

const struct kpatch_model kpatch_by_stopping = {
	.begin = begin_by_flag,
	.step = step_by_stopping,
	.retreat = retreat_by_flag,
	.patience_ms = 1500,
	.pause_ms = 20,
};

static void set_each(enum kpatch_universe universe)
{
	struct live_patch *lpatch;
	struct live_object *obj;
	struct live_func *func;

	for_each_live_patch(lpatch) {
		if (lpatch->role == LIVE_STAYS)
			continue;
		for_each_live_object(lpatch, obj)
			for_each_live_func(obj, func)
				WRITE_ONCE(func->universe, universe);
	}
}

static bool by_function(const struct kpatch_transition *transition)
{
	return transition->lpatch->patch->switching == KPATCH_SWITCH_FUNCTION;
}

static int begin_at_once(struct kpatch_transition *transition)
{
	int err = 0;

	set_each(KPATCH_OLD);
	if (by_function(transition))
		kpatch_rule_by(KPATCH_BY_FUNCTION, KPATCH_OLD);
	transition->check.own = true;
	if (kpatch_any_goes())
		err = kpatch_members_begin(KPATCH_OLD, NULL);
	if (err)
		return err;
	kpatch_leave_towards(KPATCH_NEW);
	kpatch_publish();
	return 0;
}

/* Whoever is born from here on can't be in what goes. */
static int step_at_once(struct kpatch_transition *transition)
{
	if (transition->steps == 1) {
		if (by_function(transition))
			set_each(KPATCH_NEW);
		else
			flip(KPATCH_NEW);
		kpatch_synchronize_handlers();
		kpatch_members_complete();
	}
	return kpatch_any_goes() ? kpatch_leave_step(transition) : 0;
}

static int retreat_at_once(struct kpatch_transition *transition)
{
	set_each(KPATCH_OLD);
	return by_function(transition) ? 0 : flip(KPATCH_OLD);
}

const struct kpatch_model kpatch_at_once = {
	.begin = begin_at_once,
	.step = step_at_once,
	.retreat = retreat_at_once,
	.pause_ms = 20,
};
