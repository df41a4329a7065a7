/* SPDX-License-Identifier: GPL-2.0-only */
/* calls.h - counting calls, for the model that does and for the way of a call */
#ifndef _KPATCH_CALLS_H
#define _KPATCH_CALLS_H

#include "patch.h"

enum kpatch_universe kpatch_universe_of_counted(void);

int kpatch_calls_begin(void);
void kpatch_calls_anew(void);
bool kpatch_calls_missed(void);
bool kpatch_calls_switch(void);
void kpatch_calls_end(void);

#endif /* _KPATCH_CALLS_H */
