/* SPDX-License-Identifier: GPL-2.0-only */
/* faults.h - points at which a test build of the core can be made to fail */
#ifndef _KPATCH_FAULTS_H
#define _KPATCH_FAULTS_H

#include <linux/types.h>

#ifdef KPATCH_FAULTS

int kpatch_fault_at(const char *function, int line);
bool kpatch_misses_call(void);
bool kpatch_forgets_cleared(void);

/* 0, or -ENOMEM where the test wants it. */
#define kpatch_fault() kpatch_fault_at(__func__, __LINE__)

#else

static inline int kpatch_fault(void)
{
	return 0;
}

static inline bool kpatch_misses_call(void)
{
	return false;
}

static inline bool kpatch_forgets_cleared(void)
{
	return false;
}

#endif
#endif /* _KPATCH_FAULTS_H */
