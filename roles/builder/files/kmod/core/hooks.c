// SPDX-License-Identifier: GPL-2.0-only
/*
 * hooks.c - calls what patch modules want to do when an object is switched
 *
 * Locking: the caller holds kpatch_mutex, so that one hook runs at a time.
 */
#include "core.h"

/**
 * kpatch_pre_patch_object() - ask whether an attached object may be patched
 * @lpatch:	the patch
 * @obj:	one of its objects
 *
 * Return: 0 or what the hook refused with; a refusal has been recorded then.
 */
int kpatch_pre_patch_object(struct live_patch *lpatch, struct live_object *obj)
{
	const struct kpatch_hooks *hooks = obj->object->hooks;
	int err;

	err = kpatch_fault();
	if (!err && hooks && hooks->pre_patch)
		err = hooks->pre_patch(obj->object);
	obj->prepared = !err;
	if (!err)
		return 0;
	kpatch_refuse("the pre_patch hook of %s for %s says %d", lpatch->patch->owner->name,
		      kpatch_object_name(obj->object), err);
	/* Neither a retry nor what isn't an error at all. */
	return err < 0 && err >= -MAX_ERRNO && err != -EAGAIN ? err : -EINVAL;
}

void kpatch_post_patch_object(const struct live_object *obj)
{
	const struct kpatch_hooks *hooks = obj->object->hooks;

	if (hooks && hooks->post_patch)
		hooks->post_patch(obj->object);
}

void kpatch_pre_unpatch_object(const struct live_object *obj)
{
	const struct kpatch_hooks *hooks = obj->object->hooks;

	if (hooks && hooks->pre_unpatch)
		hooks->pre_unpatch(obj->object);
}

void kpatch_post_unpatch_object(struct live_object *obj)
{
	const struct kpatch_hooks *hooks = obj->object->hooks;

	if (obj->prepared && hooks && hooks->post_unpatch)
		hooks->post_unpatch(obj->object);
	obj->prepared = false;
}

/* All objects that are there, or none. */
int kpatch_pre_patch(struct live_patch *lpatch)
{
	struct live_object *obj;
	int err;

	for_each_live_object(lpatch, obj) {
		if (!obj->attached)
			continue;
		err = kpatch_pre_patch_object(lpatch, obj);
		if (err) {
			kpatch_post_unpatch(lpatch);
			return err;
		}
	}
	return 0;
}

void kpatch_post_patch(struct live_patch *lpatch)
{
	struct live_object *obj;

	for_each_live_object(lpatch, obj)
		if (obj->attached)
			kpatch_post_patch_object(obj);
}

void kpatch_pre_unpatch(struct live_patch *lpatch)
{
	struct live_object *obj;

	for_each_live_object(lpatch, obj)
		if (obj->attached)
			kpatch_pre_unpatch_object(obj);
}

void kpatch_post_unpatch(struct live_patch *lpatch)
{
	struct live_object *obj;

	for_each_live_object(lpatch, obj)
		if (obj->attached)
			kpatch_post_unpatch_object(obj);
}
