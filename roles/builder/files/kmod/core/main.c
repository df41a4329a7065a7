// SPDX-License-Identifier: GPL-2.0-only
/*
 * main.c - the core module's door: registration of patch modules
 *
 * Locking: kpatch_mutex guards all state of patches. It is taken inside the
 * module notifier's lock and sysfs's references to open files, and outside
 * ftrace's locks, text_mutex and the processors' hotplug lock.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/delay.h>
#include <linux/module.h>
#include <linux/slab.h>

#include "core.h"

/* Guards all state of patches, objects and sites. */
DEFINE_MUTEX(kpatch_mutex);
LIST_HEAD(kpatch_patches);

/* How long a module that is to be patched may take to come up. */
#define SETTLE_MS	20
#define SETTLE_ATTEMPTS	250

/* What a worker does for @writer, who waits, or no longer does. */
int kpatch_try_set_enabled(struct live_patch *lpatch, bool enable, struct task_struct *writer)
{
	int err = 0;

	mutex_lock(&kpatch_mutex);
	kpatch_forget_refusal();
	if (!lpatch->registered)
		err = -ENODEV;
	else if (kpatch_in_transition())
		err = kpatch_reverse(lpatch, enable);
	else if (enable && !lpatch->enabled)
		err = kpatch_enable(lpatch, writer);
	else if (!enable && lpatch->enabled)
		err = kpatch_disable(lpatch, writer);
	mutex_unlock(&kpatch_mutex);
	return err;
}

/**
 * kpatch_set_enabled() - enable or disable a registered patch
 * @lpatch:	the patch
 * @enable:	which
 *
 * Return: 0, also if it was so already; -EINPROGRESS if the caller was killed
 * and the patch is still on its way back; or another negative error code: then
 * nothing has changed and a refusal has been recorded.
 */
int kpatch_set_enabled(struct live_patch *lpatch, bool enable)
{
	unsigned int attempt = 0;
	int err;

	do {
		if (attempt)
			msleep(SETTLE_MS);
		err = kpatch_request(lpatch, enable);
	} while (err == -EAGAIN && ++attempt < SETTLE_ATTEMPTS);

	if (err == -EAGAIN)
		kpatch_refuse("a module that %s patches does not finish being loaded or removed",
			      lpatch->patch->owner->name);
	return err;
}

static struct live_patch *find_patch(const struct kpatch_patch *patch)
{
	struct live_patch *lpatch;

	list_for_each_entry(lpatch, &kpatch_patches, list)
		if (lpatch->patch->owner == patch->owner)
			return lpatch;
	return NULL;
}

static void free_patch(struct live_patch *lpatch)
{
	struct live_object *obj;

	if (lpatch->objects)
		for_each_live_object(lpatch, obj)
			kfree(obj->funcs);
	kfree(lpatch->objects);
	kfree(lpatch);
}

static struct live_patch *create_patch(const struct kpatch_patch *patch)
{
	struct live_patch *lpatch;
	struct live_object *obj;
	struct live_func *func;

	lpatch = kpatch_fault() ? NULL : kzalloc(sizeof(*lpatch), GFP_KERNEL);
	if (!lpatch)
		return NULL;
	lpatch->patch = patch;
	lpatch->objects = kcalloc(patch->nr_objects, sizeof(*obj), GFP_KERNEL);
	if (!lpatch->objects || kpatch_fault())
		goto free;
	for_each_live_object(lpatch, obj)
		obj->object = &patch->objects[obj - lpatch->objects];
	for_each_live_object(lpatch, obj) {
		obj->funcs = kcalloc(obj->object->nr_funcs, sizeof(*func), GFP_KERNEL);
		if (!obj->funcs || kpatch_fault())
			goto free;
		for_each_live_func(obj, func) {
			func->func = &obj->object->funcs[func - obj->funcs];
			func->lpatch = lpatch;
		}
	}
	return lpatch;

free:
	free_patch(lpatch);
	return NULL;
}

static int add_patch(struct live_patch *lpatch)
{
	int err = 0;

	mutex_lock(&kpatch_mutex);
	if (find_patch(lpatch->patch)) {
		kpatch_refuse("%s is registered already", lpatch->patch->owner->name);
		err = -EEXIST;
	} else {
		lpatch->registered = true;
		list_add_tail(&lpatch->list, &kpatch_patches);
	}
	mutex_unlock(&kpatch_mutex);
	return err;
}

static void remove_patch(struct live_patch *lpatch)
{
	mutex_lock(&kpatch_mutex);
	lpatch->registered = false;
	list_del(&lpatch->list);
	mutex_unlock(&kpatch_mutex);
}

/**
 * kpatch_register() - register and enable a patch
 * @patch:	what it is; stays where it is until kpatch_unregister()
 *
 * Return: 0 or a negative error code: -ENOEXEC for another abi or a relocation
 * out of reach, -EOPNOTSUPP for a consistency or a function that can't be had,
 * -ENOENT for a symbol that isn't there, -EBUSY if a task or somebody else's
 * redirection is in the way. After an error everything is as it was.
 */
int kpatch_register(const struct kpatch_patch *patch)
{
	struct live_patch *lpatch;
	int err;

	kpatch_forget_refusal();
	err = kpatch_check_patch(patch);
	if (err)
		return err;
	lpatch = create_patch(patch);
	if (!lpatch)
		return -ENOMEM;
	err = add_patch(lpatch);
	if (err)
		goto free;
	err = kpatch_sysfs_add(lpatch);
	if (err)
		goto remove;
	err = kpatch_set_enabled(lpatch, true);
	if (err == -EINPROGRESS) {
		/* Its functions are in use: the module stays, and can go later. */
		pr_warn("%s stays loaded until it has been left\n", patch->owner->name);
		return 0;
	}
	if (err)
		goto remove_sysfs;
	pr_info("%s is enabled\n", patch->owner->name);
	return 0;

remove_sysfs:
	kpatch_sysfs_remove(lpatch);
remove:
	remove_patch(lpatch);
free:
	free_patch(lpatch);
	return err;
}
EXPORT_SYMBOL_GPL(kpatch_register);

/**
 * kpatch_unregister() - forget a patch that has been disabled
 * @patch:	what kpatch_register() was given
 *
 * Nothing of the patch module is used once this has returned.
 */
void kpatch_unregister(const struct kpatch_patch *patch)
{
	struct live_patch *lpatch;

	mutex_lock(&kpatch_mutex);
	lpatch = find_patch(patch);
	mutex_unlock(&kpatch_mutex);
	if (WARN_ON(!lpatch))
		return;

	/* Its text is about to go: there is no way out but to wait. */
	while (WARN_ON_ONCE(lpatch->enabled) && kpatch_set_enabled(lpatch, false))
		msleep(SETTLE_MS);
	remove_patch(lpatch);
	kpatch_sysfs_remove(lpatch);
	free_patch(lpatch);
}
EXPORT_SYMBOL_GPL(kpatch_unregister);

static int __init kpatch_init(void)
{
	int err;

	err = kpatch_symbols_init();
	err = err ?: kpatch_universe_init();
	err = err ?: kpatch_requests_init();
	if (err)
		return err;
	err = kpatch_sysfs_init();
	if (err)
		goto exit_requests;
	err = kpatch_watch_modules();
	if (err)
		goto exit_sysfs;
	return 0;

exit_sysfs:
	kpatch_sysfs_exit();
exit_requests:
	kpatch_requests_exit();
	return err;
}

/* Patch modules hold the core: none is registered any more. */
static void __exit kpatch_exit(void)
{
	kpatch_unwatch_modules();
	kpatch_sysfs_exit();
	kpatch_requests_exit();
	/* The last work at the border may not have returned yet. */
	kpatch_synchronize_tasks();
}

module_init(kpatch_init);
module_exit(kpatch_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Replaces functions of the running kernel, all at once or not at all");
