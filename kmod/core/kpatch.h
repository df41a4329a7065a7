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
#define KPATCH_ABI 1

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
 * struct kpatch_func - one function to replace
 * @name:	its name in its object's symbol table
 * @sympos:	which of the symbols of that name in that object, counted from
 *		1 in the order of addresses; 0 if the name must be unique
 * @new_func:	the replacement, in the patch module's text
 */
struct kpatch_func {
	const char *name;
	unsigned long sympos;
	void *new_func;
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

/**
 * struct kpatch_object - vmlinux or one module, and what changes in it
 * @name:	the module's name; NULL for vmlinux
 * @funcs:	the functions to replace
 * @nr_funcs:	how many
 * @relocs:	the relocations against this object's symbols
 * @nr_relocs:	how many
 */
struct kpatch_object {
	const char *name;
	const struct kpatch_func *funcs;
	unsigned int nr_funcs;
	const struct kpatch_reloc *relocs;
	unsigned int nr_relocs;
};

/**
 * struct kpatch_patch - what one patch module brings
 * @abi:	KPATCH_ABI
 * @owner:	THIS_MODULE
 * @objects:	the objects to patch
 * @nr_objects:	how many
 * @leave:	what a task must have left
 * @switching:	what switches at once
 */
struct kpatch_patch {
	unsigned int abi;
	struct module *owner;
	const struct kpatch_object *objects;
	unsigned int nr_objects;
	enum kpatch_leave leave;
	enum kpatch_switch switching;
};

int kpatch_register(const struct kpatch_patch *patch);
void kpatch_unregister(const struct kpatch_patch *patch);

#endif /* _KPATCH_H */
