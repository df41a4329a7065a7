// SPDX-License-Identifier: GPL-2.0-only
/*
 * activeness.c - looks at the stack of every task for functions being switched
 *
 * Locking: the caller holds kpatch_mutex, so that no patch changes meanwhile.
 * No lock is taken for a stack: its task is current, or the machine stands
 * still, or the scheduler keeps the task from running.
 */
#include <linux/cpumask.h>
#include <linux/refcount.h>
#include <linux/sched/signal.h>
#include <asm/unwind.h>

#include "activeness.h"
#include "core.h"

/* Whether calls in @universe reach the functions of a patch that switches. */
static bool in_force(const struct live_patch *lpatch, enum kpatch_universe universe)
{
	return universe == (lpatch->role == LIVE_COMES ? KPATCH_NEW : KPATCH_OLD);
}

static bool func_holds(const struct kpatch_check *check, const struct live_func *func,
		       unsigned long address)
{
	const struct live_func *below;

	if (kpatch_on_its_way(func, address))
		return true;
	if (in_force(func->lpatch, check->from))
		return kpatch_in_code(&func->new_code, address);
	if (check->own)
		return false;
	if (kpatch_in_code(&func->old_code, address))
		return true;
	below = kpatch_redirected_below(func);
	return below && kpatch_in_code(&below->new_code, address);
}

static bool object_holds(struct kpatch_check *check, const struct live_object *obj,
			 unsigned long address)
{
	const struct live_func *func;

	if (!obj->attached)
		return false;
	for_each_live_func(obj, func) {
		if (!func->func->force && func_holds(check, func, address)) {
			check->function = func->func->name;
			check->object = kpatch_object_name(obj->object);
			return true;
		}
	}
	return false;
}

/* What a patch brings along may have been reached by a tail call. */
static bool added_code_holds(struct kpatch_check *check, struct live_patch *lpatch,
			     const struct task_struct *task, unsigned long address)
{
	const struct module *owner = lpatch->patch->owner;

	if (!in_force(lpatch, check->from))
		return false;
	/* Forced functions may call them, and their text stays. */
	if (kpatch_forced(lpatch))
		return false;
	if (task == check->caller || !within_module(address, owner))
		return false;
	check->function = "an added function";
	check->object = owner->name;
	return true;
}

/* Records where @address is if that must have been left. */
static bool must_be_left(struct kpatch_check *check, const struct task_struct *task,
			 unsigned long address)
{
	struct live_patch *lpatch;
	struct live_object *obj;

	if (kpatch_in_code(&kpatch_ftrace_code, address)) {
		check->function = "a function that ftrace is called from";
		check->object = "vmlinux";
		return true;
	}
	for_each_live_patch(lpatch) {
		if (lpatch->role == LIVE_STAYS)
			continue;
		for_each_live_object(lpatch, obj)
			if (object_holds(check, obj, address))
				return true;
		if (added_code_holds(check, lpatch, task, address))
			return true;
	}
	return false;
}

/*
 * As the kernel's own reliable walk, which is not exported: it has come to the
 * end of the stack, every address on the way was code, and none must be left.
 */
static enum kpatch_verdict walk_stack(struct kpatch_check *check, struct task_struct *task)
{
	struct unwind_state state;
	unsigned long address;
	struct pt_regs *regs;
	bool inside = false;

	check->depth = 0;
	check->function = NULL;
	if (kpatch_walk_would_warn(task))
		return KPATCH_UNREADABLE;
	for (unwind_start(&state, task, NULL, NULL);
	     !unwind_done(&state) && !unwind_error(&state);
	     unwind_next_frame(&state)) {
		regs = unwind_get_entry_regs(&state, NULL);
		if (regs && user_mode(regs))
			return inside ? KPATCH_INSIDE : KPATCH_LEFT;
		/* Preempted without a frame of its own. */
		if (regs && IS_ENABLED(CONFIG_FRAME_POINTER))
			return inside ? KPATCH_INSIDE : KPATCH_UNREADABLE;
		address = unwind_get_return_address(&state);
		if (!address)
			return inside ? KPATCH_INSIDE : KPATCH_UNREADABLE;
		if (check->depth < KPATCH_STACK_DEPTH)
			check->stack[check->depth++] = address;
		inside = inside || must_be_left(check, task, address);
	}
	if (inside)
		return KPATCH_INSIDE;
	return unwind_error(&state) ? KPATCH_UNREADABLE : KPATCH_LEFT;
}

void kpatch_name_task(struct kpatch_check *check, const struct task_struct *task)
{
	memcpy(check->comm, task->comm, sizeof(check->comm));
	check->comm[sizeof(check->comm) - 1] = '\0';
	check->pid = task->pid;
}

/**
 * kpatch_check_stack() - look for what a task must have left
 * @check:	the question, and the answer if the task is in the way
 * @task:	the current task, or one that can't run meanwhile
 *
 * The caller holds kpatch_mutex.
 */
enum kpatch_verdict kpatch_check_stack(struct kpatch_check *check, struct task_struct *task)
{
	enum kpatch_verdict verdict = walk_stack(check, task);

	if (verdict != KPATCH_LEFT)
		kpatch_name_task(check, task);
	return verdict;
}

static enum kpatch_verdict check_stopped_task(struct kpatch_check *check,
					      struct kpatch_cleared *cleared,
					      struct task_struct *task)
{
	/* On a processor now: that is one of the stoppers. */
	if (READ_ONCE(task->on_cpu))
		return KPATCH_LEFT;
	/* A dead task has given its stack back. */
	if (!refcount_read(&task->stack_refcount))
		return KPATCH_LEFT;
	if (kpatch_is_cleared(cleared, task))
		return KPATCH_LEFT;
	return kpatch_check_stack(check, task);
}

/**
 * kpatch_check_stopped() - check all tasks, the idle tasks included
 * @check:	the question; the answer is about the first task in the way
 * @cleared:	the tasks that need no second look, or NULL
 *
 * Runs inside stop_machine().
 */
enum kpatch_verdict kpatch_check_stopped(struct kpatch_check *check,
					 struct kpatch_cleared *cleared)
{
	struct task_struct *process, *task;
	enum kpatch_verdict verdict;
	unsigned int cpu;

	for_each_process_thread(process, task) {
		verdict = check_stopped_task(check, cleared, task);
		if (verdict != KPATCH_LEFT)
			return verdict;
	}
	for_each_online_cpu(cpu) {
		verdict = check_stopped_task(check, cleared, kpatch_idle_task(cpu));
		if (verdict != KPATCH_LEFT)
			return verdict;
	}
	return KPATCH_LEFT;
}

struct pinned {
	struct kpatch_check *check;
	struct kpatch_cleared *cleared;
	enum kpatch_verdict verdict;
};

static kpatch_pinned_t check_pinned(struct task_struct *task, void *data)
{
	struct pinned *pinned = data;

	/* Pairs with the release in finish_task(): it has been counted as switched. */
	if (smp_load_acquire(&task->on_cpu) || kpatch_task_dead(task))
		return 0;
	pinned->verdict = kpatch_check_stack(pinned->check, task);
	if (pinned->verdict == KPATCH_LEFT)
		kpatch_cleared_add(pinned->cleared, task);
	return 0;
}

/**
 * kpatch_check_living() - check all tasks that don't run, while others do
 * @check:	the question; the answer is about the first task that is inside,
 *		or else about the first that can't be told of: that may pass
 * @cleared:	where those are noted that are not in the way; may be NULL
 *
 * Nothing is certain when it returns: it is there to find out cheaply that a
 * switch would fail.
 */
enum kpatch_verdict kpatch_check_living(struct kpatch_check *check,
					struct kpatch_cleared *cleared)
{
	enum kpatch_verdict verdict = KPATCH_LEFT;
	struct pinned pinned = { .check = check, .cleared = cleared };
	struct task_struct *process, *task;
	struct kpatch_check first = *check;

	rcu_read_lock();
	for_each_process_thread(process, task) {
		pinned.verdict = KPATCH_LEFT;
		if (task != current)
			kpatch_call_pinned(task, check_pinned, &pinned);
		if (pinned.verdict == KPATCH_INSIDE) {
			rcu_read_unlock();
			return KPATCH_INSIDE;
		}
		if (pinned.verdict != KPATCH_LEFT && verdict == KPATCH_LEFT) {
			verdict = pinned.verdict;
			first = *check;
		}
	}
	rcu_read_unlock();
	*check = first;
	return verdict;
}
