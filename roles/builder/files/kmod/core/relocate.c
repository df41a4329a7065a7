// SPDX-License-Identifier: GPL-2.0-only
/*
 * relocate.c - writes the addresses of an object's symbols into a patch module
 *
 * Locking: the caller holds kpatch_mutex; text_mutex is taken inside it, as
 * ftrace does.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/elf.h>
#include <linux/memory.h>
#include <linux/smp.h>
#include <asm/sync_core.h>

#include "core.h"

/* How many bytes @type writes; 0 if it is none of ours. */
size_t kpatch_reloc_size(unsigned int type)
{
	switch (type) {
	case R_X86_64_64:
		return 8;
	case R_X86_64_PC32:
	case R_X86_64_PLT32:
	case R_X86_64_32:
	case R_X86_64_32S:
		return 4;
	}
	return 0;
}

static bool overflows(unsigned int type, u64 value)
{
	switch (type) {
	case R_X86_64_64:
		return false;
	case R_X86_64_32:
		return value != (u32)value;
	}
	return (s64)value != (s32)value;
}

static int apply(const struct kpatch_reloc *reloc, unsigned long symbol)
{
	u64 value = symbol + reloc->addend;

	if (reloc->type == R_X86_64_PC32 || reloc->type == R_X86_64_PLT32)
		value -= (unsigned long)reloc->dest;
	if (overflows(reloc->type, value)) {
		kpatch_refuse("relocation type %u to %s is out of reach at %pS",
			      reloc->type, reloc->symbol, reloc->dest);
		return -ENOEXEC;
	}
	mutex_lock(kpatch_text_mutex);
	kpatch_text_poke(reloc->dest, &value, kpatch_reloc_size(reloc->type));
	mutex_unlock(kpatch_text_mutex);
	return 0;
}

static void sync_this_cpu(void *unused)
{
	sync_core();
}

/**
 * kpatch_relocate() - apply the relocations against an object that is there
 * @object:	the object
 * @mod:	its module; NULL for vmlinux
 *
 * May be called again when the module has come back elsewhere. What it writes
 * to can't be running: the functions of the object are not redirected yet.
 *
 * Return: 0 or a negative error code; a refusal has been recorded then.
 */
int kpatch_relocate(const struct kpatch_object *object, struct module *mod)
{
	const struct kpatch_reloc *reloc;
	unsigned long symbol;
	int err;

	for (reloc = object->relocs; reloc < object->relocs + object->nr_relocs; reloc++) {
		if (!kpatch_reloc_size(reloc->type)) {
			kpatch_refuse("relocation type %u to %s is unknown",
				      reloc->type, reloc->symbol);
			return -ENOEXEC;
		}
		err = kpatch_find_symbol(mod, reloc->symbol, reloc->sympos, &symbol);
		if (err)
			return err;
		err = kpatch_fault() ?: apply(reloc, symbol);
		if (err)
			return err;
	}
	/* What other processors have prefetched of this text is stale. */
	if (object->nr_relocs)
		on_each_cpu(sync_this_cpu, NULL, 1);
	return 0;
}
