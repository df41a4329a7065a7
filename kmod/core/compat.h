/* SPDX-License-Identifier: GPL-2.0-only */
/* compat.h - the only place that knows how kernels differ, 5.10 to 7.2 */
#ifndef _KPATCH_COMPAT_H
#define _KPATCH_COMPAT_H

#include <linux/ftrace.h>
#include <linux/kallsyms.h>
#include <linux/rcupdate.h>
#include <linux/version.h>

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

/* Ends a timer that starts itself anew; test modules have one. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 2, 0)
#define kpatch_timer_delete_sync(timer) timer_delete_sync(timer)
#else
#define kpatch_timer_delete_sync(timer) del_timer_sync(timer)
#endif

#endif /* _KPATCH_COMPAT_H */
