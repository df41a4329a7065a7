// SPDX-License-Identifier: GPL-2.0-only
/* exit_above.c - the same once more, to be stacked on it */
#include "exit.c"
