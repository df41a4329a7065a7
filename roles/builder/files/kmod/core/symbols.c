// SPDX-License-Identifier: GPL-2.0-only
/*
 * symbols.c - finds symbols, exported or not, and calls what is not exported
 *
 * Locking: none of its own. The addresses are written once, before anything
 * else of the core runs. A module that is handed in must be kept from going
 * away by kpatch_mutex (objects.c says how).
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kprobes.h>
#include <linux/linkage.h>
#include <linux/memory.h>
#include <linux/objtool.h>
#include <linux/slab.h>

#include "core.h"

/*
 * A function that is not exported and whose address is not taken has lost its
 * ENDBR on kernels with CONFIG_X86_KERNEL_IBT: an indirect call to it traps.
 * A return is not tracked, so push the address and "return" to it.
 */
#define KPATCH_UNEXPORTED(name)						\
	static unsigned long kpatch_address_##name __used;		\
	asm(".pushsection .text\n"					\
	    ".globl kpatch_" #name "\n"					\
	    ".type kpatch_" #name ", @function\n"			\
	    "kpatch_" #name ":\n\t"					\
	    "pushq kpatch_address_" #name "(%rip)\n\t"			\
	    ASM_RET "\n"						\
	    ".size kpatch_" #name ", . - kpatch_" #name "\n"		\
	    ".popsection\n");						\
	STACK_FRAME_NON_STANDARD(kpatch_##name)

KPATCH_UNEXPORTED(kallsyms_lookup_name);
KPATCH_UNEXPORTED(kallsyms_lookup_size_offset);
KPATCH_UNEXPORTED(ftrace_location);
KPATCH_UNEXPORTED(find_module);
KPATCH_UNEXPORTED(__module_address);
KPATCH_UNEXPORTED(__module_text_address);
KPATCH_UNEXPORTED(idle_task);
KPATCH_UNEXPORTED(text_poke);
KPATCH_UNEXPORTED(call_pinned);
KPATCH_UNEXPORTED(task_work_cancel_func);

#ifdef KPATCH_SEARCH_BY_NAME
KPATCH_UNEXPORTED(kallsyms_on_each_match_symbol);
#else
KPATCH_UNEXPORTED(kallsyms_on_each_symbol);
#endif

/* Guards all text against two writers: the kernel's own, which is not exported. */
struct mutex *kpatch_text_mutex;

/* Looks for the lowest address above @above that carries @name. */
struct search {
	const char *name;
	unsigned long above;
	unsigned long found;
};

static void consider(struct search *search, unsigned long address)
{
	if (address > search->above && (!search->found || address < search->found))
		search->found = address;
}

#ifdef KPATCH_SEARCH_BY_NAME
static int consider_match(void *data, unsigned long address)
{
	consider(data, address);
	return 0;
}

static void search_vmlinux(struct search *search)
{
	kpatch_kallsyms_on_each_match_symbol(consider_match, search->name, search);
}
#else
static int consider_symbol(void *data, const char *name, struct module *mod,
			   unsigned long address)
{
	struct search *search = data;

	if (!mod && !strcmp(name, search->name))
		consider(search, address);
	return 0;
}

static void search_vmlinux(struct search *search)
{
	kpatch_kallsyms_on_each_symbol(consider_symbol, search);
}
#endif

static void search_module(struct search *search, struct module *mod)
{
	const struct mod_kallsyms *symbols;
	unsigned int i;

	/* The table is replaced by a shorter one when the module's init is freed. */
	rcu_read_lock_sched();
	symbols = rcu_dereference_sched(mod->kallsyms);
	for (i = 0; i < symbols->num_symtab; i++) {
		const typeof(*symbols->symtab) *symbol = &symbols->symtab[i];

		if (symbol->st_shndx != SHN_UNDEF &&
		    !strcmp(symbols->strtab + symbol->st_name, search->name))
			consider(search, symbol->st_value);
	}
	rcu_read_unlock_sched();
}

static unsigned long next_symbol(struct module *mod, const char *name, unsigned long above)
{
	struct search search = { .name = name, .above = above };

	if (mod)
		search_module(&search, mod);
	else
		search_vmlinux(&search);
	return search.found;
}

/**
 * kpatch_find_symbol() - find a symbol, exported or not, static or not
 * @mod:	the module to look in; NULL for vmlinux
 * @name:	its name
 * @sympos:	which one of that name, by address, from 1; 0 if there is one only
 * @address:	where to put its address
 *
 * Return: 0, -ENOENT, or -EINVAL if @sympos is 0 and there are several; a
 * refusal has been recorded then.
 */
int kpatch_find_symbol(struct module *mod, const char *name,
		       unsigned long sympos, unsigned long *address)
{
	unsigned long left = sympos ?: 1;
	unsigned long found = 0;

	if (kpatch_fault())
		return -ENOMEM;
	do {
		found = next_symbol(mod, name, found);
	} while (found && --left);

	if (!found) {
		kpatch_refuse("symbol %s,%lu is not in %s", name, sympos,
			      mod ? mod->name : "vmlinux");
		return -ENOENT;
	}
	if (!sympos && next_symbol(mod, name, found)) {
		kpatch_refuse("symbol %s is in %s more than once: its sympos must say which",
			      name, mod ? mod->name : "vmlinux");
		return -EINVAL;
	}
	*address = found;
	return 0;
}

static int append_range(struct kpatch_code *code, unsigned long address)
{
	unsigned long size, offset;

	if (code->nr == KPATCH_MAX_RANGES)
		return -E2BIG;
	if (!kpatch_kallsyms_lookup_size_offset(address, &size, &offset))
		return -ENOENT;
	code->range[code->nr].start = address;
	code->range[code->nr].end = address - offset + size;
	code->nr++;
	return 0;
}

/**
 * kpatch_find_code() - find all places that a function's instructions are at
 * @mod:	the module that it is in; NULL for vmlinux
 * @name:	its name
 * @address:	its entry
 * @code:	where to put the answer
 *
 * The compiler moves unlikely paths into a symbol of their own, which a stack
 * shows like any other. Which of several such symbols belongs to which of
 * several functions of one name is not recorded, so all of them count.
 *
 * Return: 0 or a negative error code; a refusal has been recorded then.
 */
int kpatch_find_code(struct module *mod, const char *name,
		     unsigned long address, struct kpatch_code *code)
{
	unsigned long part = 0;
	char *cold;
	int err;

	code->nr = 0;
	cold = kasprintf(GFP_KERNEL, "%s.cold", name);
	if (!cold)
		return -ENOMEM;
	err = kpatch_fault();
	err = err ?: append_range(code, address);
	while (!err && (part = next_symbol(mod, cold, part)))
		err = append_range(code, part);
	kfree(cold);
	if (err)
		kpatch_refuse("the extent of function %s in %s can't be told (%d)", name,
			      mod ? mod->name : "vmlinux", err);
	return err;
}

/* Whether @address is in @mod, which may be no module at all. */
bool kpatch_is_module_of(const struct module *mod, unsigned long address)
{
	bool is;

	/* What a module is searched under differs: RCU, or preemption off. */
	rcu_read_lock_sched();
	is = mod && kpatch___module_address(address) == mod;
	rcu_read_unlock_sched();
	return is;
}

/* Whether a function of @mod, which is the module of the caller, begins at @address. */
bool kpatch_is_function(const struct module *mod, unsigned long address)
{
	unsigned long size, offset;
	bool in_text;

	rcu_read_lock_sched();
	in_text = kpatch___module_text_address(address) == mod;
	rcu_read_unlock_sched();
	return in_text && kpatch_kallsyms_lookup_size_offset(address, &size, &offset) && !offset;
}

/* With ENDBR it is just behind it, which is as good an entry. */
static unsigned long probed_address(const char *name)
{
	struct kprobe probe = { .symbol_name = name };
	unsigned long address;

	if (register_kprobe(&probe))
		return 0;
	address = (unsigned long)probe.addr;
	unregister_kprobe(&probe);
	return address;
}

struct kpatch_code kpatch_ftrace_code;

static unsigned long end_of(unsigned long address)
{
	unsigned long size, offset;

	if (!kpatch_kallsyms_lookup_size_offset(address, &size, &offset))
		return address;
	return address - offset + size;
}

/* ftrace_caller() and ftrace_regs_caller(), one after the other, and what they call. */
static void find_ftrace_code(void)
{
	unsigned long caller = kpatch_kallsyms_lookup_name("ftrace_caller");
	unsigned long end = kpatch_kallsyms_lookup_name("ftrace_regs_caller_end");
	unsigned long list_func = kpatch_kallsyms_lookup_name(KPATCH_FTRACE_LIST_FUNC);

	kpatch_ftrace_code.range[0].start = caller;
	kpatch_ftrace_code.range[0].end = end_of(end);
	kpatch_ftrace_code.range[1].start = list_func;
	kpatch_ftrace_code.range[1].end = end_of(list_func);
	kpatch_ftrace_code.nr = 2;
}

static int look_up(const char *name, unsigned long *address)
{
	*address = kpatch_kallsyms_lookup_name(name);
	if (*address)
		return 0;
	pr_err("this kernel has no %s\n", name);
	return -EOPNOTSUPP;
}

/* Once, before anything else here is used. */
int kpatch_symbols_init(void)
{
	unsigned long text_mutex_address;
	int err;

	kpatch_address_kallsyms_lookup_name = probed_address("kallsyms_lookup_name");
	if (!kpatch_address_kallsyms_lookup_name) {
		pr_err("kallsyms_lookup_name can't be found: are kprobes off?\n");
		return -EOPNOTSUPP;
	}
	err = look_up("text_mutex", &text_mutex_address);
	kpatch_text_mutex = (struct mutex *)text_mutex_address;
	err = err ?: look_up("kallsyms_lookup_size_offset",
			     &kpatch_address_kallsyms_lookup_size_offset);
	err = err ?: look_up("ftrace_location", &kpatch_address_ftrace_location);
	err = err ?: look_up("find_module", &kpatch_address_find_module);
	err = err ?: look_up("__module_address", &kpatch_address___module_address);
	err = err ?: look_up("__module_text_address", &kpatch_address___module_text_address);
	err = err ?: look_up("idle_task", &kpatch_address_idle_task);
	err = err ?: look_up("text_poke", &kpatch_address_text_poke);
	err = err ?: look_up(__stringify(KPATCH_CALL_PINNED), &kpatch_address_call_pinned);
	kpatch_address_task_work_cancel_func = kpatch_kallsyms_lookup_name("task_work_cancel_func");
	if (!err && !kpatch_address_task_work_cancel_func)
		err = look_up("task_work_cancel", &kpatch_address_task_work_cancel_func);
#ifdef KPATCH_SEARCH_BY_NAME
	err = err ?: look_up("kallsyms_on_each_match_symbol",
			     &kpatch_address_kallsyms_on_each_match_symbol);
#else
	err = err ?: look_up("kallsyms_on_each_symbol",
			     &kpatch_address_kallsyms_on_each_symbol);
#endif
	if (!err)
		find_ftrace_code();
	return err;
}
