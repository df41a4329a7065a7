/* SPDX-License-Identifier: GPL-2.0-only */
/* kpt.h - what the test modules share */
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

#endif /* _KPT_H */
