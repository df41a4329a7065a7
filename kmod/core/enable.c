// SPDX-License-Identifier: GPL-2.0-only
/*
 * enable.c - the two steps of a patch's life: enabling and disabling
 *
 * Locking: the caller holds kpatch_mutex.
 */
#include <linux/kernel.h>
#include <linux/lockdep.h>

#include "core.h"

static void mark_patched(struct live_patch *lpatch, bool enabled)
{
	struct live_object *obj;

	for_each_live_object(lpatch, obj)
		obj->patched = enabled && obj->attached;
	WRITE_ONCE(lpatch->enabled, enabled);
}

/**
 * kpatch_enable() - send callers to the new functions
 * @lpatch:	a patch that is not enabled
 *
 * Return: 0; -EAGAIN if a module that it patches is just being loaded; or
 * another negative error code, with a refusal recorded. After an error
 * everything is as it was.
 */
int kpatch_enable(struct live_patch *lpatch)
{
	struct module *owner = lpatch->patch->owner;
	int err;

	lockdep_assert_held(&kpatch_mutex);
	/* While it is enabled its text must stay: kpatch_disable() puts it. */
	if (!try_module_get(owner)) {
		kpatch_refuse("%s is being unloaded", owner->name);
		return -ENODEV;
	}
	err = kpatch_attach_objects(lpatch);
	if (err)
		goto put_owner;
	err = kpatch_switch(lpatch, true);
	if (err)
		goto detach;

	mark_patched(lpatch, true);
	/* The list is in the order of enabling: a late module stacks likewise. */
	list_move_tail(&lpatch->list, &kpatch_patches);
	add_taint(TAINT_LIVEPATCH, LOCKDEP_STILL_OK);
	return 0;

detach:
	kpatch_detach_objects(lpatch);
put_owner:
	module_put(owner);
	return err;
}

/**
 * kpatch_disable() - send callers to where they went before
 * @lpatch:	an enabled patch
 *
 * Patches may be disabled in any order: what others have enabled stays.
 *
 * Return: 0, or a negative error code with a refusal recorded; the patch is
 * still enabled then.
 */
int kpatch_disable(struct live_patch *lpatch)
{
	int err;

	lockdep_assert_held(&kpatch_mutex);
	err = kpatch_switch(lpatch, false);
	if (err)
		return err;

	mark_patched(lpatch, false);
	kpatch_detach_objects(lpatch);
	/* A site that others use is still there: wait for those under way. */
	kpatch_synchronize_tasks();
	module_put(lpatch->patch->owner);
	return 0;
}
