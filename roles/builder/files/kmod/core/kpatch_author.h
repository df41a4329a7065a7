/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * kpatch_author.h - what the author of a source patch can say in it
 *
 * The builder lets the diff's files find it: #include <kpatch_author.h>. All
 * that is below is the same for the core module and for the kernel's own
 * livepatch, but for KPATCH_FORCE_UNSAFE(), which livepatch does not have.
 *
 * Marks stand at file scope, with a semicolon, in a C file or a header of the
 * diff. They leave nothing in a kernel that is built from the patched source:
 * they are names in a section that its linker discards.
 */
#ifndef _KPATCH_AUTHOR_H
#define _KPATCH_AUTHOR_H

#include <linux/compiler.h>
#include <linux/types.h>

#define __KPATCH_MARK(kind, what)				\
	asm(".pushsection .discard.kpatch, \"\", @progbits\n\t"	\
	    ".asciz \"" kind "=" what "\"\n\t"			\
	    ".popsection")

/**
 * KPATCH_PRE_PATCH() - may this object be patched?
 * @hook:	a new function of the file, static int hook(void)
 *
 * Called before the functions of the object that the file belongs to (vmlinux
 * or a module) are redirected: when the patch is enabled, or, if the module
 * comes later, when it is loaded. Anything but 0 refuses the patch, or the load
 * of the module, and nothing has changed then.
 *
 * Of each kind of hook an object has one. They may sleep. They must not load,
 * enable or disable patches.
 */
#define KPATCH_PRE_PATCH(hook)			\
	static int __used hook(void);		\
	__KPATCH_MARK("pre_patch", #hook)

/**
 * KPATCH_POST_PATCH() - the object is patched
 * @hook:	a new function of the file, static void hook(void)
 *
 * Called once every task uses the new functions.
 */
#define KPATCH_POST_PATCH(hook)			\
	static void __used hook(void);		\
	__KPATCH_MARK("post_patch", #hook)

/**
 * KPATCH_PRE_UNPATCH() - the object is about to be restored
 * @hook:	a new function of the file, static void hook(void)
 *
 * Called while every task still uses the new functions. If the patch then can't
 * be disabled the post_patch hook is called again.
 */
#define KPATCH_PRE_UNPATCH(hook)		\
	static void __used hook(void);		\
	__KPATCH_MARK("pre_unpatch", #hook)

/**
 * KPATCH_POST_UNPATCH() - the object is restored
 * @hook:	a new function of the file, static void hook(void)
 *
 * Called once every task uses the old functions; also after a pre_patch hook
 * whose patch then could not be enabled. The place to free shadow variables.
 */
#define KPATCH_POST_UNPATCH(hook)		\
	static void __used hook(void);		\
	__KPATCH_MARK("post_unpatch", #hook)

/**
 * KPATCH_FORCE_UNSAFE() - replace a function under the tasks that are in it
 * @function:	a function that the patch replaces
 *
 * No stack is checked for this function: a task that sleeps in it does not keep
 * the switch from happening, goes on in the code that it is in, and meets the
 * other functions as they are from then on. Only for a function of which old
 * and new code may run side by side. The patch can be disabled, but its module
 * stays loaded until the next boot.
 */
#define KPATCH_FORCE_UNSAFE(function) __KPATCH_MARK("force", #function)

/**
 * KPATCH_IGNORE_FUNCTION() - leave a function that changed as it is
 * @function:	a function that exists already
 *
 * The author vouches for the running kernel's code: it has done its work (as
 * __init code), or does no harm.
 */
#define KPATCH_IGNORE_FUNCTION(function) __KPATCH_MARK("ignore_function", #function)

/**
 * KPATCH_IGNORE_DATA() - leave data whose initial value changed as it is
 * @variable:	a variable that exists already
 *
 * The author vouches for the value in the running kernel, or sets it in a hook.
 */
#define KPATCH_IGNORE_DATA(variable) __KPATCH_MARK("ignore_data", #variable)

/**
 * KPATCH_IGNORE_SECTION() - leave out what changed in a section
 * @section:	its name in the object file, a string: ".init.data"
 *
 * For all functions and data in it, and for a list that the builder does not
 * know: the author vouches that the patch does without its entries.
 */
#define KPATCH_IGNORE_SECTION(section) __KPATCH_MARK("ignore_section", section)

/*
 * Shadow variables: data that a patch attaches to objects of the kernel, as if
 * their type had a member more. Where livepatch is built in they are its own
 * (Documentation/livepatch/shadow-vars.rst), so that patches for either see
 * each other's; elsewhere the core module keeps them.
 */
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

/**
 * kpatch_shadow_get() - find what is attached to an object
 * @obj:	the object's address
 * @id:		which of the variables attached to it
 *
 * Return: its data, or NULL.
 */
void *kpatch_shadow_get(void *obj, unsigned long id);

/**
 * kpatch_shadow_alloc() - attach a variable, which must not be there yet
 * @obj:	the object's address
 * @id:		which; numbers are common to all patches
 * @size:	of its data, which is zeroed first
 * @flags:	as for kmalloc()
 * @ctor:	initialises it, under a spinlock; anything but 0 gives up; may be
 *		NULL
 * @data:	for @ctor
 *
 * Return: its data, or NULL if there is no memory, @ctor gave up, or it was
 * there already, which is warned of.
 */
void *kpatch_shadow_alloc(void *obj, unsigned long id, size_t size, gfp_t flags,
			  kpatch_shadow_ctor_t ctor, void *data);

/**
 * kpatch_shadow_get_or_alloc() - find a variable, or else attach it
 * @obj:	the object's address
 * @id:		which
 * @size:	as for kpatch_shadow_alloc(), if it is not there
 * @flags:	as for kpatch_shadow_alloc()
 * @ctor:	as for kpatch_shadow_alloc()
 * @data:	as for kpatch_shadow_alloc()
 *
 * Return: its data, or NULL if there is no memory or @ctor gave up.
 */
void *kpatch_shadow_get_or_alloc(void *obj, unsigned long id, size_t size, gfp_t flags,
				 kpatch_shadow_ctor_t ctor, void *data);

/**
 * kpatch_shadow_free() - detach a variable and free it, if it is there
 * @obj:	the object's address
 * @id:		which
 * @dtor:	called with it before, under a spinlock; may be NULL
 *
 * To be called where the object itself is freed.
 */
void kpatch_shadow_free(void *obj, unsigned long id, kpatch_shadow_dtor_t dtor);

/**
 * kpatch_shadow_free_all() - the same for all objects
 * @id:		which
 * @dtor:	as for kpatch_shadow_free()
 */
void kpatch_shadow_free_all(unsigned long id, kpatch_shadow_dtor_t dtor);

#endif
#endif /* _KPATCH_AUTHOR_H */
