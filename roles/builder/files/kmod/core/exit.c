// SPDX-License-Identifier: GPL-2.0-only
/*
 * exit.c - replaces what a module runs last, its exit function
 *
 * It is notrace, so that ftrace can't redirect it. But one function alone calls
 * it, once, and finds it in struct module: that pointer is its site. While it is
 * switched the module is held, so that nobody can call it meanwhile: it switches
 * with the others, whatever their model. A module on its way out can't be held: a
 * patch that comes leaves it alone, one that goes waits until it has gone.
 *
 * Locking: the caller holds kpatch_mutex. delete_module() reads the pointer
 * without it, of a module that can't be held any more.
 */
#include <linux/module.h>

#include "core.h"

static bool has_exit(const struct live_object *obj)
{
	const struct live_func *func;

	for_each_live_func(obj, func)
		if (func->func->exit)
			return true;
	return false;
}

/**
 * kpatch_hold_module() - keep a module from being removed, if its exit switches
 * @obj:	an object that is there
 *
 * Return: 0, or -EAGAIN if the module is on its way out, and perhaps in its exit
 * function already.
 */
int kpatch_hold_module(struct live_object *obj)
{
	if (obj->held || !has_exit(obj))
		return 0;
	if (!try_module_get(obj->mod))
		return -EAGAIN;
	obj->held = true;
	return 0;
}

void kpatch_release_module(struct live_object *obj)
{
	if (obj->held)
		module_put(obj->mod);
	obj->held = false;
}

/* All that are there; after an error some may be held. */
int kpatch_hold_modules(struct live_patch *lpatch)
{
	struct live_object *obj;
	int err;

	for_each_live_object(lpatch, obj) {
		err = obj->attached ? kpatch_hold_module(obj) : 0;
		if (err)
			return err;
	}
	return 0;
}

void kpatch_release_modules(struct live_patch *lpatch)
{
	struct live_object *obj;

	for_each_live_object(lpatch, obj)
		kpatch_release_module(obj);
}

/**
 * kpatch_check_exit() - is this what the kernel calls when the module goes?
 * @mod:	the module; NULL for vmlinux
 * @name:	the function's name
 * @address:	its entry
 *
 * Return: 0, or a negative error code; a refusal has been recorded then.
 */
int kpatch_check_exit(struct module *mod, const char *name, unsigned long address)
{
	unsigned long exit = 0;
	int err;

	err = kpatch_find_symbol(mod, "cleanup_module", 0, &exit);
	if (err || exit == address)
		return err;
	kpatch_refuse("%s is not the exit function of %s", name, mod ? mod->name : "vmlinux");
	return -EINVAL;
}

/**
 * kpatch_point_exit() - say what the kernel calls when the module goes
 * @mod:	a module that is held, or on its way in or out
 * @address:	of a function
 */
void kpatch_point_exit(struct module *mod, unsigned long address)
{
#ifdef CONFIG_MODULE_UNLOAD
	WRITE_ONCE(mod->exit, (void (*)(void))address);
#endif
}
