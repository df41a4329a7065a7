// SPDX-License-Identifier: GPL-2.0-only
/*
 * shadow.c - uses shadow variables as a patch would; it loads if they do as they should
 *
 * Made twice: with those of the kernel, and with the core's own, which kernels
 * without livepatch get.
 */
#include <linux/module.h>
#include <linux/slab.h>

#include "kpatch_author.h"

#define ID 0x6b707401UL
#define OTHER_ID (ID + 1)

static int destroyed;

static int construct(void *obj, void *shadow, void *data)
{
	if (!data)
		return -EPERM;
	*(int *)shadow = *(int *)data;
	return 0;
}

static void destroy(void *obj, void *shadow)
{
	destroyed += *(int *)shadow;
}

static int *shadow_of(void *obj, unsigned long id, int value)
{
	return kpatch_shadow_get_or_alloc(obj, id, sizeof(int), GFP_KERNEL, construct, &value);
}

static int not_so;

static void want(bool is_so, const char *what)
{
	if (is_so)
		return;
	pr_err("kpt_shadow: not so: %s\n", what);
	not_so++;
}

#define WANT(condition) want(condition, #condition)

static void try_one(void *one)
{
	int *shadow;

	WANT(!kpatch_shadow_get(one, ID));
	WANT(!kpatch_shadow_alloc(one, ID, sizeof(int), GFP_KERNEL, construct, NULL));
	WANT(!kpatch_shadow_get(one, ID));
	shadow = shadow_of(one, ID, 7);
	WANT(shadow && *shadow == 7);
	WANT(kpatch_shadow_get(one, ID) == shadow);
	WANT(shadow_of(one, ID, 8) == shadow && *shadow == 7);
	WANT(!kpatch_shadow_get(one, OTHER_ID));
}

static void try_several(void *one, void *two)
{
	WANT(!kpatch_shadow_get(two, ID));
	WANT(shadow_of(two, ID, 20) && shadow_of(one, OTHER_ID, 100));
	kpatch_shadow_free(one, ID, destroy);
	WANT(destroyed == 7 && !kpatch_shadow_get(one, ID));
	kpatch_shadow_free(one, ID, destroy);
	WANT(destroyed == 7);
	WANT(shadow_of(one, ID, 1000));
	kpatch_shadow_free_all(ID, destroy);
	WANT(destroyed == 1027 && !kpatch_shadow_get(two, ID));
	WANT(*(int *)kpatch_shadow_get(one, OTHER_ID) == 100);
	kpatch_shadow_free_all(OTHER_ID, NULL);
	WANT(destroyed == 1027 && !kpatch_shadow_get(one, OTHER_ID));
}

static int __init shadow_init(void)
{
	int objects[2];

	try_one(&objects[0]);
	if (!not_so)
		try_several(&objects[0], &objects[1]);
	return not_so ? -EINVAL : 0;
}

static void __exit shadow_exit(void)
{
}

module_init(shadow_init);
module_exit(shadow_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Uses shadow variables");
