/* SPDX-License-Identifier: GPL-2.0-only */
/* kpt.h - what the test modules share: a patch module in one line */
#ifndef _KPT_H
#define _KPT_H

#include <linux/module.h>

#include "kpatch.h"

/* Without it the compiler would let callers know what is inside. */
#define noipa __attribute__((noipa))

#define KPT_PATCH(_objects, _leave, _switching)				\
static struct kpatch_patch kpt_patch = {				\
	.abi = KPATCH_ABI,						\
	.owner = THIS_MODULE,						\
	.objects = _objects,						\
	.nr_objects = ARRAY_SIZE(_objects),				\
	.leave = _leave,						\
	.switching = _switching,					\
}

#define KPT_MODULE(_description)					\
static int __init kpt_init(void)					\
{									\
	return kpatch_register(&kpt_patch);				\
}									\
									\
static void __exit kpt_exit(void)					\
{									\
	kpatch_unregister(&kpt_patch);					\
}									\
									\
module_init(kpt_init);							\
module_exit(kpt_exit);							\
MODULE_LICENSE("GPL");							\
MODULE_INFO(livepatch, "Y");						\
MODULE_DESCRIPTION(_description)

#endif /* _KPT_H */
