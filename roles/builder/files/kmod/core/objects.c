// SPDX-License-Identifier: GPL-2.0-only
/*
 * objects.c - makes objects ready for patching, those that load later included
 *
 * Locking: everything here runs under kpatch_mutex, the module notifier too.
 * A module that was found live under that mutex stays until the mutex is
 * released: on its way out it has to pass the notifier, which waits.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/module.h>
#include <linux/notifier.h>

#include "core.h"

/* Returns false if @mod is just being loaded: it may have passed us, or not. */
static bool find_object(const struct kpatch_object *object, struct module **mod)
{
	bool settled = true;

	rcu_read_lock_sched();
	*mod = kpatch_find_module(object->name);
	if (*mod && (*mod)->state != MODULE_STATE_LIVE) {
		settled = (*mod)->state == MODULE_STATE_GOING;
		*mod = NULL;
	}
	rcu_read_unlock_sched();
	return settled;
}

static int attach_func(struct live_object *obj, struct live_func *func,
		       struct module *mod, struct module *owner)
{
	const char *name = func->func->name;
	unsigned long address;
	struct live_func *other;
	int err;

	err = kpatch_find_symbol(mod, name, func->func->sympos, &address);
	err = err ?: kpatch_find_code(mod, name, address, &func->old_code);
	err = err ?: kpatch_find_code(owner, name, (unsigned long)func->func->new_func,
				      &func->new_code);
	if (err)
		return err;
	for (other = obj->funcs; other < func; other++) {
		if (kpatch_entry(&other->old_code) == address) {
			kpatch_refuse("%s replaces function %s twice", owner->name, name);
			return -EINVAL;
		}
	}
	err = kpatch_verify(func->func, &func->old_code, kpatch_object_name(obj->object));
	return err ?: kpatch_attach_func(func, mod);
}

static void detach_object(struct live_object *obj)
{
	struct live_func *func;

	for_each_live_func(obj, func)
		kpatch_detach_func(func);
	kpatch_release_module(obj);
	obj->attached = false;
}

static int attach_object(struct live_object *obj, struct module *mod, struct module *owner)
{
	struct live_func *func;
	int err;

	err = kpatch_relocate(obj->object, mod);
	if (err)
		return err;
	obj->mod = mod;
	err = kpatch_hold_module(obj);
	for_each_live_func(obj, func)
		err = err ?: attach_func(obj, func, mod, owner);
	if (err)
		detach_object(obj);
	else
		obj->attached = true;
	return err;
}

/**
 * kpatch_attach_objects() - make every object that is there ready to switch
 * @lpatch:	the patch
 *
 * Return: 0; -EAGAIN if a module is just being loaded or removed; or another
 * negative error code, with a refusal recorded. After an error nothing is
 * attached.
 */
int kpatch_attach_objects(struct live_patch *lpatch)
{
	struct module *mod = NULL;
	struct live_object *obj;
	int err = 0;

	for_each_live_object(lpatch, obj) {
		if (!obj->object->name)
			err = attach_object(obj, NULL, lpatch->patch->owner);
		else if (!find_object(obj->object, &mod))
			err = -EAGAIN;
		else if (mod)
			err = attach_object(obj, mod, lpatch->patch->owner);
		if (err) {
			kpatch_detach_objects(lpatch);
			return err;
		}
	}
	return 0;
}

void kpatch_detach_objects(struct live_patch *lpatch)
{
	struct live_object *obj;

	for_each_live_object(lpatch, obj)
		if (obj->attached)
			detach_object(obj);
}

static struct live_object *object_of(struct live_patch *lpatch, const struct module *mod)
{
	struct live_object *obj;

	for_each_live_object(lpatch, obj)
		if (obj->object->name && !strcmp(obj->object->name, mod->name))
			return obj;
	return NULL;
}

/* Nobody is in a function of a module that is coming or going: just flip. */
static void flip_object(const struct live_object *obj, bool enable)
{
	struct live_func *func;

	for_each_live_func(obj, func) {
		if (enable)
			kpatch_redirect(func);
		else
			kpatch_restore(func);
	}
}

static int patch_object(struct live_patch *lpatch, struct live_object *obj, struct module *mod)
{
	int err;

	err = attach_object(obj, mod, lpatch->patch->owner);
	if (err)
		return err;
	err = kpatch_pre_patch_object(lpatch, obj);
	if (err) {
		detach_object(obj);
		return err;
	}
	flip_object(obj, true);
	/* The end of a transition calls all objects' hooks, this one's as well. */
	if (lpatch->role != LIVE_STAYS)
		return 0;
	kpatch_release_module(obj);
	obj->patched = true;
	kpatch_post_patch_object(obj);
	return 0;
}

static void unpatch_object(const struct live_patch *lpatch, struct live_object *obj)
{
	/* One that is about to go in a transition has been told. */
	if (obj->patched && lpatch->role == LIVE_STAYS)
		kpatch_pre_unpatch_object(obj);
	/* In a transition its functions are on their sites before it is patched. */
	flip_object(obj, false);
	obj->patched = false;
	kpatch_post_unpatch_object(obj);
	if (obj->attached)
		detach_object(obj);
}

static void module_going(struct module *mod)
{
	struct live_patch *lpatch;
	struct live_object *obj;
	struct live_func *func;

	list_for_each_entry(lpatch, &kpatch_patches, list) {
		obj = object_of(lpatch, mod);
		if (!obj)
			continue;
		unpatch_object(lpatch, obj);
		for_each_live_func(obj, func)
			func->old_code.nr = 0;
	}
}

static int module_coming(struct module *mod)
{
	struct live_patch *lpatch;
	struct live_object *obj;
	int err;

	list_for_each_entry(lpatch, &kpatch_patches, list) {
		obj = object_of(lpatch, mod);
		if (!obj || (!lpatch->enabled && lpatch->role != LIVE_COMES))
			continue;
		if (lpatch->role != LIVE_STAYS)
			kpatch_object_comes();
		kpatch_forget_refusal();
		err = patch_object(lpatch, obj, mod);
		if (err) {
			pr_warn("module %s is not loaded, because %s can't patch it\n",
				mod->name, lpatch->patch->owner->name);
			module_going(mod);
			return err;
		}
	}
	return 0;
}

static int module_changes(struct notifier_block *block, unsigned long state, void *data)
{
	int err = 0;

	if (state != MODULE_STATE_COMING && state != MODULE_STATE_GOING)
		return NOTIFY_DONE;
	mutex_lock(&kpatch_mutex);
	if (state == MODULE_STATE_COMING)
		err = module_coming(data);
	else
		module_going(data);
	mutex_unlock(&kpatch_mutex);
	return notifier_from_errno(err);
}

static struct notifier_block module_block = {
	.notifier_call = module_changes,
};

int kpatch_watch_modules(void)
{
	return register_module_notifier(&module_block);
}

void kpatch_unwatch_modules(void)
{
	unregister_module_notifier(&module_block);
}
