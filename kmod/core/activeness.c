// SPDX-License-Identifier: GPL-2.0-only
/*
 * activeness.c - looks at the stack of every task for functions being switched
 *
 * Locking: runs inside stop_machine() and takes no lock. Nothing else runs, so
 * neither the list of tasks nor any stack changes; the caller of
 * stop_machine() holds kpatch_mutex.
 */
#include <linux/cpumask.h>
#include <linux/refcount.h>
#include <linux/sched/signal.h>
#include <asm/unwind.h>

#include "activeness.h"
#include "core.h"

static bool func_holds(const struct live_func *func, enum live_role role,
		       unsigned long address)
{
	const struct live_func *now;

	if (func->func->force)
		return false;
	if (kpatch_on_its_way(func, address))
		return true;
	if (role == LIVE_GOES)
		return kpatch_in_code(&func->new_code, address);
	if (kpatch_in_code(&func->old_code, address))
		return true;
	now = kpatch_redirected_to(func);
	return now && kpatch_in_code(&now->new_code, address);
}

/* What a patch brings along may have been reached by a tail call. */
static bool in_added_function(const struct kpatch_check *check, const struct live_patch *lpatch,
			      const struct task_struct *task, unsigned long address)
{
	/* Forced functions may call them, and their text stays. */
	return lpatch->role == LIVE_GOES && task != check->caller &&
	       within_module(address, lpatch->patch->owner) && !kpatch_forced(lpatch);
}

/* Records where @address is if that must have been left for @lpatch. */
static bool patch_holds(struct kpatch_check *check, const struct live_patch *lpatch,
			const struct task_struct *task, unsigned long address)
{
	struct live_object *obj;
	struct live_func *func;

	for_each_live_object(lpatch, obj) {
		if (!obj->attached)
			continue;
		for_each_live_func(obj, func) {
			if (func_holds(func, lpatch->role, address)) {
				check->function = func->func->name;
				check->object = kpatch_object_name(obj->object);
				return true;
			}
		}
	}
	if (!in_added_function(check, lpatch, task, address))
		return false;
	check->function = "an added function";
	check->object = lpatch->patch->owner->name;
	return true;
}

static bool must_be_left(struct kpatch_check *check, const struct task_struct *task,
			 unsigned long address)
{
	const struct live_patch *lpatch;

	for_each_live_patch(lpatch)
		if (lpatch->role != LIVE_STAYS && patch_holds(check, lpatch, task, address))
			return true;
	return false;
}

/*
 * As the kernel's own reliable walk, which is not exported: it has come to the
 * end of the stack, every address on the way was code, and none must be left.
 */
static int check_stack(struct kpatch_check *check, struct task_struct *task)
{
	struct unwind_state state;
	unsigned long address;
	struct pt_regs *regs;
	bool active = false;

	check->depth = 0;
	check->function = NULL;
	for (unwind_start(&state, task, NULL, NULL);
	     !unwind_done(&state) && !unwind_error(&state);
	     unwind_next_frame(&state)) {
		regs = unwind_get_entry_regs(&state, NULL);
		if (regs && user_mode(regs))
			return active ? -EBUSY : 0;
		/* Preempted without a frame of its own. */
		if (regs && IS_ENABLED(CONFIG_FRAME_POINTER))
			return active ? -EBUSY : -EAGAIN;
		address = unwind_get_return_address(&state);
		if (!address)
			return active ? -EBUSY : -EAGAIN;
		if (check->depth < KPATCH_STACK_DEPTH)
			check->stack[check->depth++] = address;
		active = active || must_be_left(check, task, address);
	}
	if (active)
		return -EBUSY;
	return unwind_error(&state) ? -EAGAIN : 0;
}

static int check_task(struct kpatch_check *check, struct task_struct *task)
{
	int err;

	/* On a processor now: that is one of the stoppers. */
	if (READ_ONCE(task->on_cpu))
		return 0;
	/* A dead task has given its stack back. */
	if (!refcount_read(&task->stack_refcount))
		return 0;
	err = check_stack(check, task);
	if (err) {
		memcpy(check->comm, task->comm, sizeof(check->comm));
		check->comm[sizeof(check->comm) - 1] = '\0';
		check->pid = task->pid;
	}
	return err;
}

/**
 * kpatch_check_tasks() - check all tasks, the idle tasks included
 * @check:	the question; the answer is about the first task in the way
 *
 * Return: 0, -EBUSY if a task is in a function that it must leave, or -EAGAIN
 * if a stack can't be read reliably, which passes when the task runs on.
 */
int kpatch_check_tasks(struct kpatch_check *check)
{
	struct task_struct *process, *task;
	unsigned int cpu;
	int err;

	for_each_process_thread(process, task) {
		err = check_task(check, task);
		if (err)
			return err;
	}
	for_each_online_cpu(cpu) {
		err = check_task(check, kpatch_idle_task(cpu));
		if (err)
			return err;
	}
	return 0;
}
