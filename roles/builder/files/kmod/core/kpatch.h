/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * kpatch.h - the one interface between the core module and patch modules
 *
 * A patch module fills constant tables and calls kpatch_register() from its
 * init function. The core module copies nothing out of them and writes
 * nothing into them: they must stay where they are until kpatch_unregister()
 * has returned.
 */
#ifndef _KPATCH_H
#define _KPATCH_H

#include <linux/types.h>

struct module;

/* Raised whenever a structure below changes; the core refuses any other. */
#define KPATCH_ABI 4

/*
 * The two axes of consistency (V. Pavlik, "live patching design",
 * live-patching list, November 2014).
 */

/**
 * enum kpatch_leave - what a task must have left before it switches
 * @KPATCH_LEAVE_FUNCTION:	the function that it is about to call anew
 * @KPATCH_LEAVE_PATCHED_SET:	every function that the patch replaces
 * @KPATCH_LEAVE_KERNEL:	the kernel
 */
enum kpatch_leave {
	KPATCH_LEAVE_FUNCTION,
	KPATCH_LEAVE_PATCHED_SET,
	KPATCH_LEAVE_KERNEL,
};

/**
 * enum kpatch_switch - what switches to the new functions at once
 * @KPATCH_SWITCH_FUNCTION:	each function by itself
 * @KPATCH_SWITCH_THREAD:	each task by itself
 * @KPATCH_SWITCH_KERNEL:	everything
 */
enum kpatch_switch {
	KPATCH_SWITCH_FUNCTION,
	KPATCH_SWITCH_THREAD,
	KPATCH_SWITCH_KERNEL,
};

/**
 * enum kpatch_means - how a switch of the whole kernel comes about
 * @KPATCH_BY_STOPPING:	the machine is stopped, the stacks are checked
 * @KPATCH_BY_COUNTING:	calls of the patched set are counted in and out, and
 *			the switch comes when none is under way; nothing stops
 *
 * Only for leave=patched_set, switch=kernel there is a choice.
 */
enum kpatch_means {
	KPATCH_BY_STOPPING,
	KPATCH_BY_COUNTING,
};

/**
 * struct kpatch_range - bytes of a function that differ between its object
 *			 file and the running kernel
 * @offset:	of the first byte, from the function's symbol
 * @length:	how many
 */
struct kpatch_range {
	u32 offset;
	u32 length;
};

/**
 * struct kpatch_original - what a function that is to be replaced looks like
 * @checksum:	64-bit FNV-1a over its @size bytes in the order of addresses,
 *		those of @masked left out
 * @size:	its size in bytes
 * @masked:	relocated places and those that the kernel patches itself:
 *		ascending, not overlapping
 * @nr_masked:	how many
 */
struct kpatch_original {
	u64 checksum;
	u32 size;
	u32 nr_masked;
	const struct kpatch_range *masked;
};

/**
 * struct kpatch_func - one function to replace
 * @name:	its name in its object's symbol table
 * @sympos:	which of the symbols of that name in that object, counted from
 *		1 in the order of addresses; 0 if the name must be unique
 * @new_func:	the replacement, in the patch module's text
 * @original:	what must be there before it is replaced; NULL: not compared
 * @force:	don't mind tasks that are in it (KPATCH_FORCE_UNSAFE): a patch
 *		with such a function can never be unloaded
 * @exit:	it is the exit function of its module, which the kernel finds in
 *		struct module: it needs no call to ftrace
 */
struct kpatch_func {
	const char *name;
	unsigned long sympos;
	void *new_func;
	const struct kpatch_original *original;
	bool force;
	bool exit;
};

/**
 * struct kpatch_reloc - one place in the patch module to relocate
 * @dest:	the place to write
 * @type:	R_X86_64_64, _PC32, _PLT32, _32 or _32S
 *		(System V ABI, AMD64 supplement, table 4.9)
 * @symbol:	a symbol, exported or not, static or not, of the object
 * @sympos:	as in struct kpatch_func
 * @addend:	the relocation's addend
 *
 * Relocations are applied when their object is there: at registration, or
 * when the module that they refer to is loaded later.
 */
struct kpatch_reloc {
	void *dest;
	unsigned int type;
	const char *symbol;
	unsigned long sympos;
	long addend;
};

struct kpatch_object;

/**
 * struct kpatch_hooks - what a patch module wants to do at an object's switch
 * @pre_patch:		before the object's functions are redirected; anything
 *			but 0 refuses the patch, or the load of the module
 * @post_patch:		once they are; also after a pre_unpatch whose patch then
 *			could not be disabled
 * @pre_unpatch:	before they are restored
 * @post_unpatch:	once they are; also after a pre_patch whose patch then
 *			could not be enabled
 *
 * Called with the object there, in a context that may sleep, one at a time.
 * Each may be NULL. They must not register, enable or disable patches. A patch
 * that is replaced has its own unpatch hooks called.
 */
struct kpatch_hooks {
	int (*pre_patch)(const struct kpatch_object *object);
	void (*post_patch)(const struct kpatch_object *object);
	void (*pre_unpatch)(const struct kpatch_object *object);
	void (*post_unpatch)(const struct kpatch_object *object);
};

/**
 * struct kpatch_object - vmlinux or one module, and what changes in it
 * @name:	the module's name; NULL for vmlinux
 * @funcs:	the functions to replace
 * @nr_funcs:	how many
 * @relocs:	the relocations against this object's symbols
 * @nr_relocs:	how many
 * @hooks:	what else is to be done; may be NULL
 */
struct kpatch_object {
	const char *name;
	const struct kpatch_func *funcs;
	unsigned int nr_funcs;
	const struct kpatch_reloc *relocs;
	unsigned int nr_relocs;
	const struct kpatch_hooks *hooks;
};

/**
 * struct kpatch_patch - what one patch module brings
 * @abi:	KPATCH_ABI
 * @owner:	THIS_MODULE
 * @objects:	the objects to patch
 * @nr_objects:	how many
 * @leave:	what a task must have left
 * @switching:	what switches at once
 * @means:	how, where there is a choice
 * @replace:	once it is enabled, every other patch is disabled, in one switch
 * @replaces:	the name of the one patch module that is disabled likewise, if it
 *		is enabled; NULL or empty: none
 * @checksum:	what it was made from, for whoever reads sysfs; may be NULL
 */
struct kpatch_patch {
	unsigned int abi;
	struct module *owner;
	const struct kpatch_object *objects;
	unsigned int nr_objects;
	enum kpatch_leave leave;
	enum kpatch_switch switching;
	enum kpatch_means means;
	bool replace;
	const char *replaces;
	const char *checksum;
};

int kpatch_register(const struct kpatch_patch *patch);
void kpatch_unregister(const struct kpatch_patch *patch);

#endif /* _KPATCH_H */
