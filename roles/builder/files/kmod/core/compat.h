/* SPDX-License-Identifier: GPL-2.0-only */
/* compat.h - the only place that knows how kernels differ, 5.10 to 7.2 */
#ifndef _KPATCH_COMPAT_H
#define _KPATCH_COMPAT_H

#include <linux/ftrace.h>
#include <linux/kallsyms.h>
#include <linux/preempt.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/string.h>
#include <linux/version.h>
#include <linux/wait.h>

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 16, 0)
#include <linux/text-patching.h>
#else
#include <asm/text-patching.h>
#endif

/* What an ftrace callback is handed, and how it sets where to continue. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 6, 0)
#define KPATCH_REGS struct ftrace_regs
#define kpatch_continue_at(regs, ip) ftrace_regs_set_instruction_pointer(regs, ip)
#elif LINUX_VERSION_CODE >= KERNEL_VERSION(5, 11, 0)
#define KPATCH_REGS struct ftrace_regs
#define kpatch_continue_at(regs, ip) ftrace_instruction_pointer_set(regs, ip)
#else
#define KPATCH_REGS struct pt_regs
#define kpatch_continue_at(regs, _ip) ((regs)->ip = (_ip))
#endif

/* Before 6.1 only a full register set can carry a new instruction pointer. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 1, 0)
#define KPATCH_FTRACE_FLAGS \
	(FTRACE_OPS_FL_DYNAMIC | FTRACE_OPS_FL_IPMODIFY | FTRACE_OPS_FL_PERMANENT)
#else
#define KPATCH_FTRACE_FLAGS \
	(FTRACE_OPS_FL_DYNAMIC | FTRACE_OPS_FL_IPMODIFY | FTRACE_OPS_FL_PERMANENT | \
	 FTRACE_OPS_FL_SAVE_REGS)
#endif

/* From 6.1 vmlinux's symbols are searched by name, before that one by one. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 1, 0)
#define KPATCH_SEARCH_BY_NAME
#endif

/* Tasks preempted on the way into a function; 5.10 doesn't export this. */
static inline void kpatch_synchronize_tasks(void)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(5, 11, 0)
	synchronize_rcu_tasks();
#endif
	synchronize_rcu_tasks_rude();
}

/*
 * From 5.18 the kernel warns, and reads no further, when the stack of a task
 * that is about to run has a frame that a kretprobe waits for.
 */
static inline bool kpatch_walk_would_warn(struct task_struct *task)
{
#ifdef CONFIG_RETHOOK
	return task != current && task_is_running(task) && READ_ONCE(task->rethooks.first);
#else
	return false;
#endif
}

/* Ends a timer that starts itself anew; test modules have one. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 2, 0)
#define kpatch_timer_delete_sync(timer) timer_delete_sync(timer)
#else
#define kpatch_timer_delete_sync(timer) del_timer_sync(timer)
#endif

/* A file's directory; a test module asks for one that is open, so that it stays. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 15, 0)
#define kpatch_kernfs_parent(node) rcu_dereference_protected((node)->__parent, true)
#else
#define kpatch_kernfs_parent(node) ((node)->parent)
#endif

/* The name of it before 5.17; test modules need it. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(5, 17, 0)
#define pde_data(inode) PDE_DATA(inode)
#endif

/*
 * Looks at a task that the scheduler keeps from starting or stopping to run
 * meanwhile. The older one skips tasks that run, and answers yes or no.
 */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(5, 16, 0)
#define kpatch_pinned_t int
#define KPATCH_CALL_PINNED task_call_func
#else
#define kpatch_pinned_t bool
#define KPATCH_CALL_PINNED try_invoke_on_locked_down_task
#endif

/* Tasks of user processes that live in the kernel: io_uring's, vhost's. */
#ifdef PF_USER_WORKER
#define KPATCH_PF_WORKER (PF_KTHREAD | PF_IO_WORKER | PF_USER_WORKER)
#elif defined(PF_IO_WORKER)
#define KPATCH_PF_WORKER (PF_KTHREAD | PF_IO_WORKER)
#else
#define KPATCH_PF_WORKER PF_KTHREAD
#endif

/* It has called schedule() for the last time. */
static inline bool kpatch_task_dead(const struct task_struct *task)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(5, 14, 0)
	return READ_ONCE(task->__state) == TASK_DEAD;
#else
	return READ_ONCE(task->state) == TASK_DEAD;
#endif
}

/* Whether a function calls task_work_run() on the way to user mode. */
static inline bool kpatch_is_border(const char *function)
{
	/* The compiler and the years have put several names around this one. */
	if (strstr(function, "exit_to_user_mode") || !strcmp(function, "get_signal"))
		return true;
	/* 7.2: has it inline, for interrupts of user mode only. */
	return !strcmp(function, "irqentry_exit");
}

#ifndef in_hardirq
#define in_hardirq() in_irq()
#endif

/* ftrace's function that calls several tracers of one place in turn. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(5, 11, 0)
#define KPATCH_FTRACE_LIST_FUNC "arch_ftrace_ops_list_func"
#else
#define KPATCH_FTRACE_LIST_FUNC "ftrace_ops_list_func"
#endif

#endif /* _KPATCH_COMPAT_H */
