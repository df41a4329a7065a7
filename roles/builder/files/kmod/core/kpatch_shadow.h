/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * kpatch_shadow.h - data that a patch attaches to objects of the kernel
 *
 * One interface for every kernel: where livepatch is built in these are its
 * shadow variables (Documentation/livepatch/shadow-vars.rst), and patches of
 * both kinds see each other's; elsewhere the core module keeps them.
 */
#ifndef _KPATCH_SHADOW_H
#define _KPATCH_SHADOW_H

#include <linux/types.h>

#if IS_ENABLED(CONFIG_LIVEPATCH) && !defined(KPATCH_OWN_SHADOW)
#include <linux/livepatch.h>

#define kpatch_shadow_ctor_t klp_shadow_ctor_t
#define kpatch_shadow_dtor_t klp_shadow_dtor_t
#define kpatch_shadow_get(obj, id) klp_shadow_get(obj, id)
#define kpatch_shadow_alloc(obj, id, size, flags, ctor, data) \
	klp_shadow_alloc(obj, id, size, flags, ctor, data)
#define kpatch_shadow_get_or_alloc(obj, id, size, flags, ctor, data) \
	klp_shadow_get_or_alloc(obj, id, size, flags, ctor, data)
#define kpatch_shadow_free(obj, id, dtor) klp_shadow_free(obj, id, dtor)
#define kpatch_shadow_free_all(id, dtor) klp_shadow_free_all(id, dtor)

#else

typedef int (*kpatch_shadow_ctor_t)(void *obj, void *shadow, void *data);
typedef void (*kpatch_shadow_dtor_t)(void *obj, void *shadow);

void *kpatch_shadow_get(void *obj, unsigned long id);
void *kpatch_shadow_alloc(void *obj, unsigned long id, size_t size, gfp_t flags,
			  kpatch_shadow_ctor_t ctor, void *data);
void *kpatch_shadow_get_or_alloc(void *obj, unsigned long id, size_t size, gfp_t flags,
				 kpatch_shadow_ctor_t ctor, void *data);
void kpatch_shadow_free(void *obj, unsigned long id, kpatch_shadow_dtor_t dtor);
void kpatch_shadow_free_all(unsigned long id, kpatch_shadow_dtor_t dtor);

#endif
#endif /* _KPATCH_SHADOW_H */
