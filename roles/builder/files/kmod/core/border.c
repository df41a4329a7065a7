// SPDX-License-Identifier: GPL-2.0-only
/*
 * border.c - meets tasks where they leave the kernel
 *
 * Work is added to a task that runs on its way to user mode, and also when
 * io_uring waits, when it is traced, and when it exits: there it is not at the
 * border and has to be asked again.
 *
 * Locking: @pending has a bit for each piece of work that is with its task. The
 * work clears its bit last; kpatch_withdraw_from_border() waits for that.
 */
#include <linux/sched.h>
#include <linux/sched/task.h>
#include <asm/unwind.h>

#include "core.h"
#include "transition.h"

enum {
	RESUME,
	SIGNAL,
};

static void (*when_arrived)(struct kpatch_member *member);

/* Kernel threads, io_uring's workers and idle tasks never do. */
bool kpatch_goes_to_user_mode(const struct task_struct *task)
{
	return !(task->flags & KPATCH_PF_WORKER) && !is_idle_task(task);
}

/* Whether task_work_run() was called by what leads to user mode. */
static bool at_border(void)
{
	char symbol[KSYM_SYMBOL_LEN];
	struct unwind_state state;
	unsigned long address;
	bool found = false;

	if (current->flags & PF_EXITING)
		return false;
	for (unwind_start(&state, current, NULL, NULL);
	     !unwind_done(&state) && !unwind_error(&state);
	     unwind_next_frame(&state)) {
		address = unwind_get_return_address(&state);
		if (!address)
			return false;
		sprint_symbol_no_offset(symbol, address - 1);
		if (found)
			return kpatch_is_border(symbol);
		found = !strcmp(symbol, "task_work_run");
	}
	return false;
}

static void arrive(struct kpatch_member *member, unsigned int bit)
{
	if (at_border())
		READ_ONCE(when_arrived)(member);
	/* The member may be freed from here on. */
	clear_bit_unlock(bit, &member->pending);
}

static void resume_work(struct callback_head *work)
{
	arrive(container_of(work, struct kpatch_member, resume), RESUME);
}

static void signal_work(struct callback_head *work)
{
	arrive(container_of(work, struct kpatch_member, signal), SIGNAL);
}

static void add_work(struct kpatch_member *member, unsigned int bit, struct callback_head *work,
		     task_work_func_t func, enum task_work_notify_mode notify)
{
	if (test_and_set_bit(bit, &member->pending))
		return;
	init_task_work(work, func);
	/* Refused by a task that exits: it will never be there. */
	if (task_work_add(member->task, work, notify))
		clear_bit_unlock(bit, &member->pending);
}

/**
 * kpatch_ask_at_border() - have a task pass by on its way to user mode
 * @member:	the task, which goes to user mode
 * @wake:	also if it has to be woken for that: its system call is
 *		interrupted then, and most are restarted
 */
void kpatch_ask_at_border(struct kpatch_member *member, bool wake)
{
	add_work(member, RESUME, &member->resume, resume_work, TWA_RESUME);
	if (wake)
		add_work(member, SIGNAL, &member->signal, signal_work, TWA_SIGNAL);
}

/* Called by tasks at the border from now on, in their own context. */
void kpatch_at_border(void (*arrived)(struct kpatch_member *member))
{
	WRITE_ONCE(when_arrived, arrived);
}

static int withdraw(struct kpatch_member *member, void *data)
{
	if (!READ_ONCE(member->pending))
		return 0;
	if (kpatch_task_work_cancel_func(member->task, resume_work))
		clear_bit_unlock(RESUME, &member->pending);
	if (kpatch_task_work_cancel_func(member->task, signal_work))
		clear_bit_unlock(SIGNAL, &member->pending);
	/* What can't be cancelled is running, or is about to. */
	while (smp_load_acquire(&member->pending))
		schedule_timeout_uninterruptible(1);
	return 0;
}

/* No work is with any task any more. */
void kpatch_withdraw_from_border(void)
{
	kpatch_each_member(withdraw, NULL);
}
