// SPDX-License-Identifier: GPL-2.0-only
/*
 * transition.c - takes everything from the old universe to the new, or back
 *
 * A worker carries the transition out, step by step, and waits in between. It is
 * turned back if it is reversed, if whoever wants it is killed, or if it is too
 * late.
 *
 * Locking: kpatch_mutex, which is released between steps. Who else wants
 * something then finds a transition under way. blocking_lock guards the list of
 * those who are in the way, which is read without the mutex.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/delay.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/sysfs.h>
#include <linux/timekeeping.h>

#include "core.h"
#include "transition.h"

unsigned int kpatch_deadline_ms = 30000;

/* The one that is under way. */
static struct kpatch_transition *now;
/* Why it shall be turned back; NULL if it shall not. */
static const char *reversed;
static DECLARE_WAIT_QUEUE_HEAD(changes);

#define MAX_BLOCKING 16

static DEFINE_SPINLOCK(blocking_lock);
/* A step notes in the one while the other has what the step before it has seen. */
static struct blocking {
	unsigned int count;
	struct {
		pid_t pid;
		char comm[TASK_COMM_LEN];
		char where[KSYM_NAME_LEN];
	} tasks[MAX_BLOCKING];
} blocking[2], *noted = &blocking[0], *shown = &blocking[1];

bool kpatch_in_transition(void)
{
	return now;
}

static const char *where(const struct kpatch_check *check, enum kpatch_verdict verdict)
{
	switch (verdict) {
	case KPATCH_INSIDE:
		return check->function;
	case KPATCH_UNREADABLE:
		return "(unreliable stack)";
	case KPATCH_RUNNING:
		return "(running)";
	default:
		return "(kernel)";
	}
}

/* transition->check is about a task that is in the way. */
void kpatch_note(struct kpatch_transition *transition, enum kpatch_verdict verdict)
{
	const struct kpatch_check *check = &transition->check;

	/* A task that is inside tells more than one that just runs. */
	if (!transition->remaining++ ||
	    (verdict == KPATCH_INSIDE && transition->verdict != KPATCH_INSIDE)) {
		transition->verdict = verdict;
		transition->blocker = *check;
	}
	if (noted->count < MAX_BLOCKING) {
		noted->tasks[noted->count].pid = check->pid;
		strscpy(noted->tasks[noted->count].comm, check->comm, TASK_COMM_LEN);
		strscpy(noted->tasks[noted->count].where, where(check, verdict), KSYM_NAME_LEN);
		noted->count++;
	}
}

static void forget_noted(struct kpatch_transition *transition)
{
	transition->remaining = 0;
	transition->why = NULL;
	noted->count = 0;
}

/* Whoever reads sees a whole step, never the beginning of one. */
static void show_noted(void)
{
	spin_lock(&blocking_lock);
	swap(noted, shown);
	spin_unlock(&blocking_lock);
}

int kpatch_show_blocking(const struct live_patch *lpatch, char *page)
{
	unsigned int i;
	int len = 0;

	if (!READ_ONCE(lpatch->transition))
		return 0;
	spin_lock(&blocking_lock);
	for (i = 0; i < shown->count; i++)
		len += sysfs_emit_at(page, len, "%d %s %s\n", shown->tasks[i].pid,
				     shown->tasks[i].comm, shown->tasks[i].where);
	spin_unlock(&blocking_lock);
	return len;
}

static void visit_funcs(enum live_role role, void (*call)(struct live_func *func))
{
	struct live_patch *lpatch;
	struct live_object *obj;
	struct live_func *func;

	for_each_live_patch(lpatch) {
		if (lpatch->role != role)
			continue;
		for_each_live_object(lpatch, obj)
			if (obj->attached)
				for_each_live_func(obj, func)
					call(func);
	}
}

/* From here on the universe of a call decides, which is the old one. */
void kpatch_publish(void)
{
	visit_funcs(LIVE_COMES, kpatch_redirect);
}

/*
 * The flag says old again in the end. What has come must not mind, and what has
 * gone, or has not come after all, must not be there any more.
 */
static void settle(bool switched)
{
	struct live_patch *lpatch;

	visit_funcs(switched ? LIVE_GOES : LIVE_COMES, kpatch_restore);
	for_each_live_patch(lpatch)
		if (switched && lpatch->role == LIVE_COMES)
			WRITE_ONCE(lpatch->role, LIVE_STAYS);
	kpatch_withdraw_from_border();
	/* What stays because the switch failed is still asked for: not of the table. */
	if (!switched)
		kpatch_rule_by(KPATCH_BY_FLAG, KPATCH_OLD);
	kpatch_synchronize_handlers();
	kpatch_rule_by(KPATCH_BY_FLAG, KPATCH_OLD);
	kpatch_members_end();
}

static const struct kpatch_model *model_of(const struct kpatch_patch *patch)
{
	if (patch->leave == KPATCH_LEAVE_FUNCTION)
		return &kpatch_at_once;
	if (patch->switching == KPATCH_SWITCH_THREAD)
		return &kpatch_by_thread;
	if (patch->leave == KPATCH_LEAVE_KERNEL)
		return &kpatch_by_parking;
	if (patch->means == KPATCH_BY_COUNTING)
		return &kpatch_by_counting;
	return &kpatch_by_stopping;
}

static const char *wanted(const struct kpatch_transition *transition)
{
	return transition->enable ? "enabled" : "disabled";
}

static void report(const struct kpatch_transition *transition, const char *why)
{
	kpatch_refuse("%s can't be %s: %s", transition->lpatch->patch->owner->name,
		      wanted(transition), why);
}

static void report_blocker(const struct kpatch_transition *transition)
{
	const struct kpatch_check *check = &transition->blocker;
	const char *name = transition->lpatch->patch->owner->name;
	const char *doing = wanted(transition);
	unsigned int i;

	if (transition->verdict == KPATCH_INSIDE)
		kpatch_refuse("%s can't be %s: task %s:%d is in %s of %s", name, doing,
			      check->comm, check->pid, check->function, check->object);
	else if (transition->verdict == KPATCH_UNREADABLE)
		kpatch_refuse("%s can't be %s: the stack of task %s:%d can't be read reliably",
			      name, doing, check->comm, check->pid);
	else if (transition->verdict == KPATCH_RUNNING)
		kpatch_refuse("%s can't be %s: task %s:%d does not stop running", name, doing,
			      check->comm, check->pid);
	else
		kpatch_refuse("%s can't be %s: task %s:%d does not leave the kernel", name, doing,
			      check->comm, check->pid);
	for (i = 0; i < check->depth; i++)
		pr_warn("  %pB\n", (void *)check->stack[i]);
}

static unsigned long patience(const struct kpatch_model *model)
{
	return msecs_to_jiffies(model->patience_ms ?: READ_ONCE(kpatch_deadline_ms));
}

/* Returns why the transition has to be turned back, or 0. */
static int must_retreat(const struct kpatch_transition *transition, unsigned long deadline)
{
	if (reversed) {
		report(transition, reversed);
		return -ECANCELED;
	}
	if (fatal_signal_pending(transition->check.caller)) {
		report(transition, "who wanted it was killed");
		return -EINTR;
	}
	if (!time_after(jiffies, deadline))
		return 0;
	if (transition->remaining)
		report_blocker(transition);
	else
		report(transition, transition->why ?: "there was no time");
	return -EBUSY;
}

static void pause(const struct kpatch_transition *transition)
{
	mutex_unlock(&kpatch_mutex);
	wait_event_timeout(changes, READ_ONCE(reversed) && transition->target == KPATCH_NEW,
			   msecs_to_jiffies(transition->model->pause_ms));
	mutex_lock(&kpatch_mutex);
}

static int step(struct kpatch_transition *transition)
{
	int err;

	forget_noted(transition);
	transition->steps++;
	err = transition->model->step(transition);
	show_noted();
	return err;
}

/* There is no third way: the new functions are in use. */
static void go_back(struct kpatch_transition *transition)
{
	int err;

	transition->target = KPATCH_OLD;
	transition->pressing = true;
	err = transition->model->retreat(transition);
	while (err && err != -EBUSY) {
		pause(transition);
		err = transition->model->retreat(transition);
	}
	while (err && step(transition))
		pause(transition);
}

/* Returns 0 if everything is in the new universe, or why it is in the old. */
static int carry_out(struct kpatch_transition *transition)
{
	unsigned long start = jiffies, wait = patience(transition->model);
	int err;

	for (;;) {
		err = reversed ? -EBUSY : step(transition);
		if (!err)
			return 0;
		if (err == -EBUSY)
			err = must_retreat(transition, start + wait);
		if (err)
			break;
		pause(transition);
		transition->pressing = time_after(jiffies, start + wait / 2);
	}
	/* Unless the reason is known already. */
	kpatch_refuse("%s can't be %s: the transition can't go on (%d)",
		      transition->lpatch->patch->owner->name, wanted(transition), err);
	go_back(transition);
	return err;
}

/**
 * kpatch_transit() - take everything to the new universe, or nothing
 * @lpatch:	the patch, its objects attached; others go by their roles
 * @enable:	whether it comes or goes
 * @writer:	who wants it, and waits
 *
 * kpatch_mutex is held, and released meanwhile.
 *
 * Return: 0, -EBUSY if a task stayed in the way, -ECANCELED if it was reversed,
 * -EINTR if the writer was killed, or another negative error code. Nothing has
 * changed then, and a refusal has been recorded.
 */
int kpatch_transit(struct live_patch *lpatch, bool enable, struct task_struct *writer)
{
	struct kpatch_transition *transition;
	u64 start = ktime_get_mono_fast_ns();
	int err;

	transition = kpatch_fault() ? NULL : kzalloc(sizeof(*transition), GFP_KERNEL);
	if (!transition)
		return -ENOMEM;
	transition->lpatch = lpatch;
	transition->enable = enable;
	transition->model = model_of(lpatch->patch);
	transition->target = KPATCH_NEW;
	transition->check.caller = writer;
	reversed = NULL;
	now = transition;
	WRITE_ONCE(lpatch->transition, true);

	lpatch->window_ns = 0;
	err = kpatch_fault() ?: transition->model->begin(transition);
	if (err)
		kpatch_refuse("%s: the transition can't begin (%d)", lpatch->patch->owner->name,
			      err);
	else
		err = carry_out(transition);
	settle(!err);
	if (transition->model->end)
		transition->model->end();
	forget_noted(transition);
	show_noted();

	WRITE_ONCE(lpatch->transition_ns, ktime_get_mono_fast_ns() - start);
	WRITE_ONCE(lpatch->transition, false);
	now = NULL;
	kfree(transition);
	wake_up_all(&changes);
	return err;
}

static void turn_back(const char *why)
{
	WRITE_ONCE(reversed, why);
	wake_up_all(&changes);
}

/* A module that is part of the transition is being loaded. */
void kpatch_object_comes(void)
{
	if (now && now->model == &kpatch_by_counting)
		turn_back("a module was loaded meanwhile whose calls have not been counted");
}

/**
 * kpatch_reverse() - somebody wants something while a transition is under way
 * @lpatch:	the patch that it is wanted of
 * @enable:	what is wanted
 *
 * The opposite of what is under way turns the transition back. kpatch_mutex is
 * held, and released meanwhile.
 *
 * Return: 0 once it is as wanted, or -EBUSY with a refusal recorded.
 */
int kpatch_reverse(struct live_patch *lpatch, bool enable)
{
	if (now->lpatch != lpatch || now->enable == enable) {
		kpatch_refuse("%s is just being %s", now->lpatch->patch->owner->name,
			      now->enable ? "enabled" : "disabled");
		return -EBUSY;
	}
	turn_back("the opposite was asked for meanwhile");
	mutex_unlock(&kpatch_mutex);
	wait_event_idle(changes, !READ_ONCE(lpatch->transition));
	mutex_lock(&kpatch_mutex);
	return lpatch->enabled == enable ? 0 : -EBUSY;
}
