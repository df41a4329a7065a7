/* SPDX-License-Identifier: GPL-2.0-only */
/* symbols.h - finding symbols, exported or not, and calling the unexported */
#ifndef _KPATCH_SYMBOLS_H
#define _KPATCH_SYMBOLS_H

#include <linux/kallsyms.h>
#include <linux/module.h>
#include <linux/task_work.h>

#include "compat.h"

/* A function, its cold part, and the cold parts of others of its name. */
#define KPATCH_MAX_RANGES 8

/* Where the instructions of one function are; the first range is its entry. */
struct kpatch_code {
	unsigned int nr;
	struct {
		unsigned long start;
		unsigned long end;
	} range[KPATCH_MAX_RANGES];
};

static inline unsigned long kpatch_entry(const struct kpatch_code *code)
{
	return code->nr ? code->range[0].start : 0;
}

static inline bool kpatch_in_code(const struct kpatch_code *code,
				  unsigned long address)
{
	unsigned int i;

	for (i = 0; i < code->nr; i++)
		if (address >= code->range[i].start && address < code->range[i].end)
			return true;
	return false;
}

/* The kernel's functions of these names, which it does not export. */
extern typeof(ftrace_location) kpatch_ftrace_location;
extern typeof(find_module) kpatch_find_module;
extern typeof(__module_address) kpatch___module_address;
extern typeof(__module_text_address) kpatch___module_text_address;
extern typeof(idle_task) kpatch_idle_task;
extern typeof(text_poke) kpatch_text_poke;
extern typeof(KPATCH_CALL_PINNED) kpatch_call_pinned;
/* Named without _func before 6.1.107, 6.6.48 and 6.11. */
struct callback_head *kpatch_task_work_cancel_func(struct task_struct *task,
						   task_work_func_t func);
extern typeof(kallsyms_lookup_name) kpatch_kallsyms_lookup_name;
extern typeof(kallsyms_lookup_size_offset) kpatch_kallsyms_lookup_size_offset;
#ifdef KPATCH_SEARCH_BY_NAME
extern typeof(kallsyms_on_each_match_symbol) kpatch_kallsyms_on_each_match_symbol;
#else
extern typeof(kallsyms_on_each_symbol) kpatch_kallsyms_on_each_symbol;
#endif
extern struct mutex *kpatch_text_mutex;
/* Where a task is that ftrace is about to send somewhere. */
extern struct kpatch_code kpatch_ftrace_code;

int kpatch_symbols_init(void);
bool kpatch_is_module_of(const struct module *mod, unsigned long address);
bool kpatch_is_function(const struct module *mod, unsigned long address);
int kpatch_find_symbol(struct module *mod, const char *name,
		       unsigned long sympos, unsigned long *address);
int kpatch_find_code(struct module *mod, const char *name,
		     unsigned long address, struct kpatch_code *code);

#endif /* _KPATCH_SYMBOLS_H */
