/* SPDX-License-Identifier: GPL-2.0-only */
/* core.h - what the core's files offer each other */
#ifndef _KPATCH_CORE_H
#define _KPATCH_CORE_H

#include <linux/compiler.h>

#include "faults.h"
#include "patch.h"

struct module;
struct task_struct;

/* main.c */
int kpatch_try_set_enabled(struct live_patch *lpatch, bool enable, struct task_struct *writer);
int kpatch_set_enabled(struct live_patch *lpatch, bool enable);

/* request.c */
int kpatch_request(struct live_patch *lpatch, bool enable);
bool kpatch_waits(const struct task_struct *task);
void kpatch_let_go(const struct task_struct *task);
int kpatch_requests_init(void);
void kpatch_requests_exit(void);

/* check.c */
#define KPATCH_MAX_CHECKSUM 128
int kpatch_check_patch(const struct kpatch_patch *patch);

/* consistency.c */
int kpatch_check_consistency(const struct kpatch_patch *patch);
int kpatch_show_consistency(const struct kpatch_patch *patch, char *page);

/* enable.c */
int kpatch_enable(struct live_patch *lpatch, struct task_struct *writer);
int kpatch_disable(struct live_patch *lpatch, struct task_struct *writer);
bool kpatch_any_goes(void);

/* hooks.c */
int kpatch_pre_patch(struct live_patch *lpatch);
int kpatch_pre_patch_object(struct live_patch *lpatch, struct live_object *obj);
void kpatch_post_patch(struct live_patch *lpatch);
void kpatch_post_patch_object(const struct live_object *obj);
void kpatch_pre_unpatch(struct live_patch *lpatch);
void kpatch_pre_unpatch_object(const struct live_object *obj);
void kpatch_post_unpatch(struct live_patch *lpatch);
void kpatch_post_unpatch_object(struct live_object *obj);

/* verify.c */
int kpatch_verify(const struct kpatch_func *func, const struct kpatch_code *code,
		  const char *object);

/* force.c */
bool kpatch_forced(const struct live_patch *lpatch);
void kpatch_pin_forced(struct live_patch *lpatch);

/* objects.c */
int kpatch_attach_objects(struct live_patch *lpatch);
void kpatch_detach_objects(struct live_patch *lpatch);
int kpatch_watch_modules(void);
void kpatch_unwatch_modules(void);

/* exit.c */
int kpatch_hold_module(struct live_object *obj);
void kpatch_release_module(struct live_object *obj);
int kpatch_hold_modules(struct live_patch *lpatch);
void kpatch_release_modules(struct live_patch *lpatch);
int kpatch_check_exit(struct module *mod, const char *name, unsigned long address);
void kpatch_point_exit(struct module *mod, unsigned long address);

/* redirect.c */
int kpatch_attach_func(struct live_func *func, struct module *mod);
void kpatch_detach_func(struct live_func *func);
void kpatch_redirect(struct live_func *func);
void kpatch_restore(struct live_func *func);
struct live_func *kpatch_redirected_below(const struct live_func *func);
void kpatch_synchronize_handlers(void);
bool kpatch_on_its_way(const struct live_func *func, unsigned long address);

/* universe.c */
int kpatch_universe_init(void);

/* transition.c */
int kpatch_transit(struct live_patch *lpatch, bool enable, struct task_struct *writer);
bool kpatch_in_transition(void);
int kpatch_reverse(struct live_patch *lpatch, bool enable);
void kpatch_object_comes(void);
int kpatch_show_blocking(const struct live_patch *lpatch, char *page);
extern unsigned int kpatch_deadline_ms;

/* relocate.c */
size_t kpatch_reloc_size(unsigned int type);
int kpatch_relocate(const struct kpatch_object *object, struct module *mod);

/* refusal.c */
__printf(1, 2) void kpatch_refuse(const char *format, ...);
void kpatch_forget_refusal(void);
int kpatch_show_refusal(char *page);

/* sysfs.c */
int kpatch_sysfs_init(void);
void kpatch_sysfs_exit(void);
int kpatch_sysfs_add(struct live_patch *lpatch);
void kpatch_sysfs_remove(struct live_patch *lpatch);

static inline const char *kpatch_object_name(const struct kpatch_object *object)
{
	return object->name ?: "vmlinux";
}

#endif /* _KPATCH_CORE_H */
