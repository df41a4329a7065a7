// SPDX-License-Identifier: GPL-2.0-only
/*
 * stop.c - stops the machine for a switch, and no longer than it has to
 *
 * Locking: the caller holds kpatch_mutex.
 */
#include <linux/stop_machine.h>

#include "core.h"
#include "transition.h"

/**
 * kpatch_stop() - switch while the machine is stopped, if all tasks have left
 * @transition:	the switch
 * @while_stopped: checks by kpatch_check_stopped() and switches; gets @transition
 *
 * Who is in the way now would be then: all stacks are looked at before, so that
 * the machine is not stopped in vain, and those are looked at again whose tasks
 * have run meanwhile.
 *
 * Return: the verdict of the check; KPATCH_LEFT after the switch.
 */
enum kpatch_verdict kpatch_stop(struct kpatch_transition *transition,
				int (*while_stopped)(void *transition))
{
	enum kpatch_verdict verdict;

	transition->cleared = kpatch_cleared_alloc();
	verdict = kpatch_check_living(&transition->check, transition->cleared);
	if (verdict == KPATCH_LEFT)
		verdict = stop_machine(while_stopped, transition, NULL);
	kpatch_cleared_free(transition->cleared);
	transition->cleared = NULL;
	return verdict;
}
