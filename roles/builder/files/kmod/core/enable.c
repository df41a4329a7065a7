// SPDX-License-Identifier: GPL-2.0-only
/*
 * enable.c - the two steps of a patch's life: enabling and disabling
 *
 * Locking: the caller holds kpatch_mutex, which is released while a transition
 * waits.
 */
#include <linux/kernel.h>
#include <linux/lockdep.h>
#include <linux/string.h>

#include "core.h"

static void mark_patched(struct live_patch *lpatch, bool enabled)
{
	struct live_object *obj;

	for_each_live_object(lpatch, obj)
		obj->patched = enabled && obj->attached;
	WRITE_ONCE(lpatch->enabled, enabled);
}

static bool replaces(const struct live_patch *lpatch, const struct live_patch *other)
{
	const char *name = lpatch->patch->replaces;

	return lpatch->patch->replace || (name && !strcmp(name, other->patch->owner->name));
}

static void assign_roles(struct live_patch *lpatch, bool enable)
{
	struct live_patch *other;

	for_each_live_patch(other)
		if (enable && other->enabled && replaces(lpatch, other))
			other->role = LIVE_GOES;
	lpatch->role = enable ? LIVE_COMES : LIVE_GOES;
}

static void forget_roles(void)
{
	struct live_patch *lpatch;

	for_each_live_patch(lpatch) {
		lpatch->role = LIVE_STAYS;
		kpatch_release_modules(lpatch);
	}
}

/* Everything that may fail or sleep, before the switch. */
static int prepare(struct live_patch *lpatch)
{
	int err;

	err = kpatch_attach_objects(lpatch);
	if (err)
		return err;
	err = kpatch_pre_patch(lpatch);
	if (err)
		kpatch_detach_objects(lpatch);
	return err;
}

static void unprepare(struct live_patch *lpatch)
{
	kpatch_post_unpatch(lpatch);
	kpatch_detach_objects(lpatch);
}

/* Everything that may fail for those that go. */
static int prepare_going(void)
{
	struct live_patch *lpatch;
	int err = 0;

	for_each_live_patch(lpatch)
		if (lpatch->role == LIVE_GOES)
			err = err ?: kpatch_hold_modules(lpatch);
	return err;
}

static void tell_going(void)
{
	struct live_patch *lpatch;

	for_each_live_patch(lpatch)
		if (lpatch->role == LIVE_GOES)
			kpatch_pre_unpatch(lpatch);
}

/* They stay after all, and with them objects that came meanwhile. */
static void keep_all(void)
{
	struct live_patch *lpatch;

	for_each_live_patch(lpatch) {
		if (lpatch->role != LIVE_GOES)
			continue;
		mark_patched(lpatch, true);
		kpatch_post_patch(lpatch);
	}
}

static void come(struct live_patch *lpatch)
{
	mark_patched(lpatch, true);
	kpatch_pin_forced(lpatch);
	kpatch_post_patch(lpatch);
	add_taint(TAINT_LIVEPATCH, LOCKDEP_STILL_OK);
}

bool kpatch_any_goes(void)
{
	const struct live_patch *lpatch;

	for_each_live_patch(lpatch)
		if (lpatch->role == LIVE_GOES)
			return true;
	return false;
}

/* Those that have gone, after a switch. */
static void let_go(void)
{
	struct live_patch *lpatch;

	if (!kpatch_any_goes())
		return;
	/* A site that others use is still there: wait for those under way. */
	kpatch_synchronize_tasks();
	for_each_live_patch(lpatch) {
		if (lpatch->role != LIVE_GOES)
			continue;
		mark_patched(lpatch, false);
		unprepare(lpatch);
		module_put(lpatch->patch->owner);
	}
}

/**
 * kpatch_enable() - send callers to the new functions
 * @lpatch:	a patch that is not enabled
 * @writer:	who wants it, and waits
 *
 * If it replaces others they are disabled by the same switch.
 *
 * Return: 0; -EAGAIN if a module that it patches is just being loaded or
 * removed; or another negative error code, with a refusal recorded. After an
 * error everything is as it was.
 */
int kpatch_enable(struct live_patch *lpatch, struct task_struct *writer)
{
	struct module *owner = lpatch->patch->owner;
	int err;

	lockdep_assert_held(&kpatch_mutex);
	/* While it is enabled its text must stay: let_go() puts it. */
	if (!try_module_get(owner)) {
		kpatch_refuse("%s is being unloaded", owner->name);
		return -ENODEV;
	}
	err = prepare(lpatch);
	if (err)
		goto put_owner;
	assign_roles(lpatch, true);
	err = prepare_going();
	if (err)
		goto forget;
	tell_going();
	/* The list is in the order of enabling: a late module stacks likewise. */
	list_move_tail(&lpatch->list, &kpatch_patches);
	err = kpatch_transit(lpatch, true, writer);
	if (err)
		goto undo;

	come(lpatch);
	let_go();
	forget_roles();
	return 0;

undo:
	keep_all();
forget:
	forget_roles();
	unprepare(lpatch);
put_owner:
	module_put(owner);
	return err;
}

/**
 * kpatch_disable() - send callers to where they went before
 * @lpatch:	an enabled patch
 * @writer:	who wants it, and waits
 *
 * Patches may be disabled in any order: what others have enabled stays.
 *
 * Return: 0; -EAGAIN if a module that it patches is just being removed; or
 * another negative error code, with a refusal recorded. After an error the patch
 * is still enabled.
 */
int kpatch_disable(struct live_patch *lpatch, struct task_struct *writer)
{
	int err;

	lockdep_assert_held(&kpatch_mutex);
	assign_roles(lpatch, false);
	err = prepare_going();
	if (err)
		goto forget;
	tell_going();
	err = kpatch_transit(lpatch, false, writer);
	if (err)
		keep_all();
	else
		let_go();
forget:
	forget_roles();
	return err;
}
