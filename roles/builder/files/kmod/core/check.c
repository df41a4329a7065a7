// SPDX-License-Identifier: GPL-2.0-only
/*
 * check.c - checks what a patch module hands over, before anything is done
 *
 * Locking: none; the tables are constant.
 */
#include <linux/ctype.h>
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/string.h>

#include "core.h"

static int malformed(const struct kpatch_patch *patch, const char *what, const char *name)
{
	kpatch_refuse("the tables of %s are wrong: %s %s", patch->owner->name, what, name);
	return -EINVAL;
}

static bool within(const struct module *owner, const void *start, u64 size)
{
	unsigned long first = (unsigned long)start;

	return size && size < LONG_MAX && within_module_core(first, owner) &&
	       within_module_core(first + size - 1, owner);
}

/* Nothing behind such a pointer is read before it is known to be the module's. */
static bool good_table(const struct kpatch_patch *patch, const void *table,
		       unsigned int count, size_t size)
{
	return !count || (IS_ALIGNED((unsigned long)table, sizeof(u32)) &&
			  within(patch->owner, table, (u64)count * size));
}

static bool good_text(const struct kpatch_patch *patch, const char *text, size_t limit)
{
	size_t i;

	for (i = 0; i < limit && within(patch->owner, text + i, 1); i++) {
		if (!text[i])
			return i;
		if (!isgraph(text[i]) || text[i] == '/')
			return false;
	}
	return false;
}

static bool good_name(const struct kpatch_patch *patch, const char *name)
{
	return good_text(patch, name, KSYM_NAME_LEN);
}

/* A module parameter that was not given is an empty text. */
static bool good_replaces(const struct kpatch_patch *patch)
{
	const char *name = patch->replaces;

	return !name || (within(patch->owner, name, 1) && (!*name || good_name(patch, name)));
}

/* A bool is read as a byte: more than one bit of it is a lie. */
static bool good_bool(const bool *value)
{
	return *(const u8 *)value <= 1;
}

static bool is_function(const struct kpatch_patch *patch, const void *address)
{
	return kpatch_is_function(patch->owner, (unsigned long)address);
}

static bool good_masks(const struct kpatch_original *original)
{
	const struct kpatch_range *range;
	u64 end = 0;

	for (range = original->masked; range < original->masked + original->nr_masked; range++) {
		if (!range->length || range->offset < end)
			return false;
		end = (u64)range->offset + range->length;
	}
	return end <= original->size;
}

static int check_original(const struct kpatch_patch *patch, const struct kpatch_func *func)
{
	const struct kpatch_original *original = func->original;

	if (!original)
		return 0;
	if (!good_table(patch, original, 1, sizeof(*original)) ||
	    !good_table(patch, original->masked, original->nr_masked, sizeof(*original->masked)))
		return malformed(patch, "not in the module: the original of", func->name);
	if (!original->size || !good_masks(original))
		return malformed(patch, "not ascending or not in it: the masked bytes of",
				 func->name);
	return 0;
}

static int check_func(const struct kpatch_patch *patch, const struct kpatch_object *object,
		      const struct kpatch_func *func)
{
	const struct kpatch_func *other;

	if (!good_name(patch, func->name))
		return malformed(patch, "a function has no proper name in",
				 kpatch_object_name(object));
	if (!is_function(patch, func->new_func))
		return malformed(patch, "not a function of the module: the replacement of",
				 func->name);
	if (!good_bool(&func->force))
		return malformed(patch, "neither 0 nor 1: force of", func->name);
	if (!good_bool(&func->exit))
		return malformed(patch, "neither 0 nor 1: exit of", func->name);
	if (func->exit && !object->name)
		return malformed(patch, "no module's: the exit function", func->name);
	for (other = object->funcs; other < func; other++)
		if (other->sympos == func->sympos && !strcmp(other->name, func->name))
			return malformed(patch, "given twice: function", func->name);
	return check_original(patch, func);
}

static int check_funcs(const struct kpatch_patch *patch, const struct kpatch_object *object)
{
	unsigned int i;
	int err = 0;

	for (i = 0; i < object->nr_funcs && !err; i++)
		err = check_func(patch, object, &object->funcs[i]);
	return err;
}

static int check_relocs(const struct kpatch_patch *patch, const struct kpatch_object *object)
{
	const struct kpatch_reloc *reloc;

	for (reloc = object->relocs; reloc < object->relocs + object->nr_relocs; reloc++) {
		if (!good_name(patch, reloc->symbol))
			return malformed(patch, "a relocation has no proper symbol in",
					 kpatch_object_name(object));
		if (!within(patch->owner, reloc->dest, kpatch_reloc_size(reloc->type) ?: 1))
			return malformed(patch, "not in the module: the place of a relocation to",
					 reloc->symbol);
	}
	return 0;
}

static int check_hooks(const struct kpatch_patch *patch, const struct kpatch_object *object)
{
	const struct kpatch_hooks *hooks = object->hooks;
	const void *all[4];
	unsigned int i;

	if (!hooks)
		return 0;
	if (!good_table(patch, hooks, 1, sizeof(*hooks)))
		return malformed(patch, "not in the module: the hooks for",
				 kpatch_object_name(object));
	all[0] = hooks->pre_patch;
	all[1] = hooks->post_patch;
	all[2] = hooks->pre_unpatch;
	all[3] = hooks->post_unpatch;
	for (i = 0; i < ARRAY_SIZE(all); i++)
		if (all[i] && !is_function(patch, all[i]))
			return malformed(patch, "not a function of the module: a hook for",
					 kpatch_object_name(object));
	return 0;
}

static int check_object(const struct kpatch_patch *patch, const struct kpatch_object *object)
{
	const struct kpatch_object *other;
	const char *name;
	int err;

	if (object->name && !good_name(patch, object->name))
		return malformed(patch, "an object has", "no proper name");
	name = kpatch_object_name(object);
	for (other = patch->objects; other < object; other++)
		if (!strcmp(kpatch_object_name(other), name))
			return malformed(patch, "given twice: object", name);
	if (!good_table(patch, object->funcs, object->nr_funcs, sizeof(*object->funcs)) ||
	    !good_table(patch, object->relocs, object->nr_relocs, sizeof(*object->relocs)))
		return malformed(patch, "not in the module: a table for", name);
	err = check_hooks(patch, object);
	err = err ?: check_funcs(patch, object);
	return err ?: check_relocs(patch, object);
}

/* The order of the structure's members is known only once the abi is. */
static int check_head(const struct kpatch_patch *patch)
{
	if (patch->abi != KPATCH_ABI) {
		kpatch_refuse("a patch module was built for abi %u, this core has %u",
			      patch->abi, KPATCH_ABI);
		return -ENOEXEC;
	}
	if (!kpatch_is_module_of(patch->owner, (unsigned long)patch)) {
		kpatch_refuse("a patch module doesn't say which module it is");
		return -EINVAL;
	}
	if (patch->checksum && !good_text(patch, patch->checksum, KPATCH_MAX_CHECKSUM))
		return malformed(patch, "not a word:", "the checksum");
	if (!good_bool(&patch->replace))
		return malformed(patch, "neither 0 nor 1:", "replace");
	if (!good_replaces(patch))
		return malformed(patch, "not a name:", "what it replaces");
	if (!patch->nr_objects)
		return malformed(patch, "there is", "no object");
	if (!good_table(patch, patch->objects, patch->nr_objects, sizeof(*patch->objects)))
		return malformed(patch, "not in the module:", "the objects");
	return 0;
}

/**
 * kpatch_check_patch() - check a patch's tables
 * @patch:	what the patch module handed over
 *
 * Return: 0 or a negative error code; a refusal has been recorded then.
 */
int kpatch_check_patch(const struct kpatch_patch *patch)
{
	unsigned int i;
	int err;

	err = check_head(patch);
	err = err ?: kpatch_check_consistency(patch);
	for (i = 0; !err && i < patch->nr_objects; i++)
		err = check_object(patch, &patch->objects[i]);
	return err;
}
