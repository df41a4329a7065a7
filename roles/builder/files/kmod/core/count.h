/* SPDX-License-Identifier: GPL-2.0-only */
/* count.h - what the way of a call needs to know of counting */
#ifndef _KPATCH_COUNT_H
#define _KPATCH_COUNT_H

#include "patch.h"

enum kpatch_universe kpatch_count_call(void *regs);

#endif /* _KPATCH_COUNT_H */
