// SPDX-License-Identifier: GPL-2.0-only
/* target_twin.c - a second function of the name target_twin() in one module */
#include "kpt.h"
#include "target.h"

static noipa int target_twin(void)
{
	return 20;
}

int target_other_twin(void)
{
	return target_twin();
}
