/* SPDX-License-Identifier: GPL-2.0-only */
/* patch.h - what the core keeps for each registered patch */
#ifndef _KPATCH_PATCH_H
#define _KPATCH_PATCH_H

#include <linux/completion.h>
#include <linux/kobject.h>
#include <linux/list.h>
#include <linux/mutex.h>

#include "kpatch.h"
#include "symbols.h"

struct kpatch_site;
struct live_patch;

/* The functions that a call reaches: those from before a transition, or after. */
enum kpatch_universe {
	KPATCH_OLD,
	KPATCH_NEW,
};

/* One function that a patch replaces; @site is there while it is redirected. */
struct live_func {
	struct kobject kobj;
	const struct kpatch_func *func;
	struct live_patch *lpatch;
	/* While each function switches by itself: which one this is in. */
	enum kpatch_universe universe;
	/* While calls are counted: this function's are. */
	bool counted;
	struct kpatch_code old_code;
	struct kpatch_code new_code;
	struct kpatch_site *site;
	struct list_head on_site;
	bool redirected;
};

/*
 * One object; @prepared from its pre_patch hook on until its post_unpatch hook
 * is due, @patched while it is there and its functions are redirected, @held
 * while its module is kept from being removed.
 */
struct live_object {
	struct kobject kobj;
	const struct kpatch_object *object;
	struct live_func *funcs;
	/* While it is attached; NULL for vmlinux. */
	struct module *mod;
	bool attached;
	bool held;
	bool prepared;
	bool patched;
};

/*
 * What a transition does with a patch: its functions that are on their sites
 * are in force for everybody, in the new universe only, or in the old one only.
 * Others go if the one that comes replaces them.
 */
enum live_role {
	LIVE_STAYS,
	LIVE_COMES,
	LIVE_GOES,
};

/* @role is other than LIVE_STAYS from before a transition until after it. */
struct live_patch {
	struct kobject kobj;
	const struct kpatch_patch *patch;
	struct live_object *objects;
	struct list_head list;
	struct completion released;
	enum live_role role;
	bool registered;
	bool enabled;
	bool pinned;
	bool transition;
	u64 window_ns;
	u64 transition_ns;
};

#define for_each_live_object(lpatch, obj)				\
	for ((obj) = (lpatch)->objects;					\
	     (obj) < (lpatch)->objects + (lpatch)->patch->nr_objects;	\
	     (obj)++)

#define for_each_live_func(obj, f)					\
	for ((f) = (obj)->funcs;					\
	     (f) < (obj)->funcs + (obj)->object->nr_funcs; (f)++)

#define for_each_live_patch(lpatch)					\
	list_for_each_entry(lpatch, &kpatch_patches, list)

extern struct mutex kpatch_mutex;
extern struct list_head kpatch_patches;

#endif /* _KPATCH_PATCH_H */
