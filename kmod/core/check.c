// SPDX-License-Identifier: GPL-2.0-only
/*
 * check.c - checks what a patch module hands over, before anything is done
 *
 * Locking: none; the tables are constant.
 */
#include <linux/kernel.h>
#include <linux/string.h>

#include "core.h"

/*
 * What a patch asks for must be given whole. All stacks are checked for the
 * whole set of functions, which covers leaving each function by itself. That
 * tasks have left the kernel is not checked. Everything switches at once: a
 * patch that asks for a gradual switch counts on not being refused because of
 * one task, so this is not a stronger form of what it asked for.
 */
static int check_consistency(const struct kpatch_patch *patch)
{
	if (patch->leave != KPATCH_LEAVE_FUNCTION && patch->leave != KPATCH_LEAVE_PATCHED_SET) {
		kpatch_refuse("%s: this core gives leave=function and leave=patched_set only",
			      patch->owner->name);
		return -EOPNOTSUPP;
	}
	if (patch->switching != KPATCH_SWITCH_KERNEL) {
		kpatch_refuse("%s: this core gives switch=kernel only",
			      patch->owner->name);
		return -EOPNOTSUPP;
	}
	return 0;
}

static int malformed(const struct kpatch_patch *patch, const char *what, const char *name)
{
	kpatch_refuse("the tables of %s are wrong: %s %s", patch->owner->name, what, name);
	return -EINVAL;
}

static bool good_name(const char *name)
{
	return name && name[0] && !strchr(name, '/') && strlen(name) < KSYM_NAME_LEN;
}

static int check_funcs(const struct kpatch_patch *patch, const struct kpatch_object *object)
{
	const struct kpatch_func *func, *other;

	for (func = object->funcs; func < object->funcs + object->nr_funcs; func++) {
		if (!good_name(func->name))
			return malformed(patch, "a function has no proper name in",
					 kpatch_object_name(object));
		if (!within_module((unsigned long)func->new_func, patch->owner))
			return malformed(patch, "not in the module: the replacement of",
					 func->name);
		for (other = object->funcs; other < func; other++)
			if (other->sympos == func->sympos && !strcmp(other->name, func->name))
				return malformed(patch, "given twice: function", func->name);
	}
	return 0;
}

static int check_relocs(const struct kpatch_patch *patch, const struct kpatch_object *object)
{
	const struct kpatch_reloc *reloc;

	for (reloc = object->relocs; reloc < object->relocs + object->nr_relocs; reloc++) {
		if (!good_name(reloc->symbol))
			return malformed(patch, "a relocation has no proper symbol in",
					 kpatch_object_name(object));
		if (!within_module((unsigned long)reloc->dest, patch->owner))
			return malformed(patch, "not in the module: the place of a relocation to",
					 reloc->symbol);
	}
	return 0;
}

static int check_object(const struct kpatch_patch *patch, const struct kpatch_object *object)
{
	const char *name = kpatch_object_name(object);
	const struct kpatch_object *other;

	if (!good_name(name))
		return malformed(patch, "an object has no proper name:", name);
	for (other = patch->objects; other < object; other++)
		if (!strcmp(kpatch_object_name(other), name))
			return malformed(patch, "given twice: object", name);
	if ((object->nr_funcs && !object->funcs) || (object->nr_relocs && !object->relocs))
		return malformed(patch, "a table is missing for", name);
	return check_funcs(patch, object) ?: check_relocs(patch, object);
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

	/* The order of the structure's members is not known before this. */
	if (patch->abi != KPATCH_ABI) {
		kpatch_refuse("a patch module was built for abi %u, this core has %u",
			      patch->abi, KPATCH_ABI);
		return -ENOEXEC;
	}
	if (!patch->owner) {
		kpatch_refuse("a patch module doesn't say which module it is");
		return -EINVAL;
	}
	err = check_consistency(patch);
	if (err)
		return err;
	if (!patch->nr_objects || !patch->objects)
		return malformed(patch, "there is", "no object");
	for (i = 0; i < patch->nr_objects; i++) {
		err = check_object(patch, &patch->objects[i]);
		if (err)
			return err;
	}
	return 0;
}
