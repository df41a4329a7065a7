// SPDX-License-Identifier: GPL-2.0-only
/*
 * witness_below.c - the two functions as they are, for a place below the patch
 * that turns their arguments round: it keeps their ftrace sites while that one
 * goes off and on, which saves most of a round's time
 */
#include "witness.h"

#define WITNESS_PATCHED WITNESS_OLD

#include "witness_patch.c"
