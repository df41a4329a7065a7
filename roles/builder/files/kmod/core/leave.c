// SPDX-License-Identifier: GPL-2.0-only
/*
 * leave.c - switches each task once it has left what it must leave
 *
 * Sleepers are looked at from outside: by their stacks, while the scheduler
 * keeps them from running. Tasks that go to user mode are met at the border.
 * What never goes there and always runs when it is looked at is made to wait
 * for a worker on its own processor, which looks.
 *
 * Locking: kpatch_mutex. A task's universe is written by the task itself at
 * the border, and by others while it does not run.
 */
#include <linux/cpu.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/workqueue.h>

#include "core.h"
#include "transition.h"

/* Runners are met at the border or asleep mostly: ask for their processor late. */
#define STEPS_BEFORE_WORKERS 3

static enum kpatch_universe target;

/* What a task is in while it is met: get_signal() has had its share of fixes. */
static bool is_around_border(const char *name)
{
	return kpatch_is_border(name) || !strcmp(name, "task_work_run") ||
	       !strcmp(name, "arch_do_signal_or_restart");
}

static bool border_is_patched(void)
{
	struct live_patch *lpatch;
	struct live_object *obj;
	struct live_func *func;

	for_each_live_patch(lpatch) {
		if (lpatch->role == LIVE_STAYS)
			continue;
		for_each_live_object(lpatch, obj)
			for_each_live_func(obj, func)
				if (is_around_border(func->func->name))
					return true;
	}
	return false;
}

/* The stack tells, sooner or later. */
static void arrived_in_set(struct kpatch_member *member)
{
}

static void arrived(struct kpatch_member *member)
{
	/* Pairs with kpatch_synchronize_handlers() after kpatch_leave_towards(). */
	preempt_disable();
	WRITE_ONCE(member->universe, READ_ONCE(target));
	preempt_enable();
}

static bool must_leave_kernel(const struct kpatch_transition *transition,
			      const struct task_struct *task)
{
	return transition->lpatch->patch->leave == KPATCH_LEAVE_KERNEL &&
	       kpatch_goes_to_user_mode(task) && !kpatch_waits(task);
}

struct look {
	struct kpatch_transition *transition;
	struct kpatch_member *member;
	enum kpatch_verdict verdict;
};

static enum kpatch_verdict judge(struct kpatch_transition *transition, struct task_struct *task)
{
	enum kpatch_verdict verdict;

	verdict = kpatch_check_stack(&transition->check, task);
	if (verdict != KPATCH_LEFT || !must_leave_kernel(transition, task))
		return verdict;
	/* Stopped by a signal: that is on the way to user mode. */
	return task_is_stopped(task) ? KPATCH_LEFT : KPATCH_IN_KERNEL;
}

static kpatch_pinned_t look_pinned(struct task_struct *task, void *data)
{
	struct look *look = data;

	if (kpatch_task_dead(task))
		look->verdict = KPATCH_LEFT;
	else if (task == current || !READ_ONCE(task->on_cpu))
		look->verdict = judge(look->transition, task);
	if (look->verdict == KPATCH_LEFT)
		WRITE_ONCE(look->member->universe, target);
	return 0;
}

/* It runs nothing, and nothing that is switched before it runs again. */
static bool idle_offline(const struct task_struct *task)
{
	return is_idle_task(task) && !cpu_online(task_cpu(task));
}

static enum kpatch_verdict look_at(struct kpatch_transition *transition,
				   struct kpatch_member *member)
{
	struct look look = {
		.transition = transition,
		.member = member,
		.verdict = KPATCH_RUNNING,
	};
	struct task_struct *task = member->task;

	if (idle_offline(task)) {
		WRITE_ONCE(member->universe, target);
		return KPATCH_LEFT;
	}
	transition->check.depth = 0;
	if (task == current)
		look_pinned(task, &look);
	else
		kpatch_call_pinned(task, look_pinned, &look);
	return look.verdict;
}

static void ask(struct kpatch_transition *transition, struct kpatch_member *member,
		enum kpatch_verdict verdict)
{
	bool wake = transition->pressing &&
		    (verdict == KPATCH_INSIDE || verdict == KPATCH_IN_KERNEL);

	if (!kpatch_waits(member->task) && kpatch_goes_to_user_mode(member->task))
		kpatch_ask_at_border(member, wake);
}

static int visit(struct kpatch_member *member, void *data)
{
	struct kpatch_transition *transition = data;
	enum kpatch_verdict verdict;

	if (READ_ONCE(member->universe) == target)
		return 0;
	verdict = look_at(transition, member);
	if (verdict == KPATCH_LEFT)
		return 0;
	kpatch_name_task(&transition->check, member->task);
	kpatch_note(transition, verdict);
	/* Forward the deadline sees to it. */
	if (verdict == KPATCH_INSIDE && transition->target == KPATCH_OLD)
		kpatch_let_go(member->task);
	ask(transition, member, verdict);
	return 0;
}

static int visit_here(struct kpatch_member *member, void *data)
{
	if (READ_ONCE(member->universe) != target &&
	    task_cpu(member->task) == raw_smp_processor_id() && member->task != current)
		look_at(data, member);
	return 0;
}

static long look_around(void *data)
{
	kpatch_each_member(visit_here, data);
	return 0;
}

/* A worker runs on each processor, so nothing else runs there meanwhile. */
static void send_workers(struct kpatch_transition *transition)
{
	unsigned int cpu;

	for_each_online_cpu(cpu)
		work_on_cpu(cpu, look_around, transition);
}

/*
 * Whoever is met at the border goes there from now on, and once RCU has been
 * waited for nobody goes elsewhere.
 */
void kpatch_leave_towards(enum kpatch_universe universe)
{
	WRITE_ONCE(target, universe);
	kpatch_at_border(border_is_patched() ? arrived_in_set : arrived);
}

/**
 * kpatch_leave_step() - switch those to the target that may be
 * @transition:	the transition
 *
 * Return: 0 if all are there, -EBUSY if not; who is not has been noted.
 */
int kpatch_leave_step(struct kpatch_transition *transition)
{
	transition->check.from = target == KPATCH_NEW ? KPATCH_OLD : KPATCH_NEW;
	cpus_read_lock();
	if (transition->steps > STEPS_BEFORE_WORKERS)
		send_workers(transition);
	kpatch_each_member(visit, transition);
	cpus_read_unlock();
	return transition->remaining ? -EBUSY : 0;
}
