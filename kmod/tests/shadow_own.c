// SPDX-License-Identifier: GPL-2.0-only
/* shadow_own.c - the same with the core's own implementation, wherever it is built */
#define KPATCH_OWN_SHADOW

#include "../core/shadow.c"
#include "shadow.c"
