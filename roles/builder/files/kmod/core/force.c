// SPDX-License-Identifier: GPL-2.0-only
/*
 * force.c - patches that don't mind tasks in their functions
 *
 * A task may be in such a function, or in what it calls, for as long as it
 * likes: the patch module's text has to stay for good.
 *
 * Locking: the caller holds kpatch_mutex, or only reads constant tables.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/module.h>

#include "core.h"

/* Whether @lpatch has a function that is switched under whoever is in it. */
bool kpatch_forced(const struct live_patch *lpatch)
{
	const struct live_object *obj;
	const struct live_func *func;

	for_each_live_object(lpatch, obj)
		for_each_live_func(obj, func)
			if (func->func->force)
				return true;
	return false;
}

/* The reference that is taken here is never given back. */
void kpatch_pin_forced(struct live_patch *lpatch)
{
	if (lpatch->pinned || !kpatch_forced(lpatch))
		return;
	__module_get(lpatch->patch->owner);
	lpatch->pinned = true;
	pr_notice("%s has forced functions: it can be disabled, but not unloaded before a reboot\n",
		  lpatch->patch->owner->name);
}
