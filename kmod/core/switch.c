// SPDX-License-Identifier: GPL-2.0-only
/*
 * switch.c - stops the machine and switches everything at once, or nothing
 *
 * Everything slow is done before and after: while the machine stands, stacks
 * are checked and list entries flipped.
 *
 * Locking: the caller holds kpatch_mutex.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/delay.h>
#include <linux/slab.h>
#include <linux/stop_machine.h>
#include <linux/timekeeping.h>

#include "activeness.h"
#include "core.h"

/* What stands in the way passes mostly: unreliable stacks, short visits. */
#define RETRY_MS	20
#define ATTEMPTS	75

static void flip_patch(struct live_patch *lpatch)
{
	struct live_object *obj;
	struct live_func *func;

	for_each_live_object(lpatch, obj) {
		if (!obj->attached)
			continue;
		for_each_live_func(obj, func) {
			if (lpatch->role == LIVE_COMES)
				kpatch_redirect(func);
			else
				kpatch_restore(func);
		}
	}
}

static void flip(void)
{
	struct live_patch *lpatch;

	for_each_live_patch(lpatch)
		if (lpatch->role != LIVE_STAYS)
			flip_patch(lpatch);
}

static int while_stopped(void *data)
{
	u64 start = ktime_get_mono_fast_ns();
	struct kpatch_check *check = data;
	int err;

	err = kpatch_check_tasks(check);
	if (!err)
		flip();
	check->lpatch->window_ns = ktime_get_mono_fast_ns() - start;
	return err;
}

static void report(const struct kpatch_check *check, int err)
{
	const char *doing = check->enable ? "enabled" : "disabled";
	const char *name = check->lpatch->patch->owner->name;
	unsigned int i;

	if (err == -EBUSY)
		kpatch_refuse("%s can't be %s: task %s:%d is in %s of %s", name, doing,
			      check->comm, check->pid, check->function, check->object);
	else
		kpatch_refuse("%s can't be %s: the stack of task %s:%d can't be read reliably",
			      name, doing, check->comm, check->pid);
	for (i = 0; i < check->depth; i++)
		pr_warn("  %pB\n", (void *)check->stack[i]);
}

/**
 * kpatch_switch() - make all new functions of a patch effective, or none
 * @lpatch:	the patch, its objects attached
 * @enable:	false to go back to what was there before
 *
 * Every patch whose role is other than LIVE_STAYS is switched along with it.
 *
 * Return: 0, or -EBUSY if a task stayed in the way; nothing has changed then,
 * and a refusal that names the task has been recorded.
 */
int kpatch_switch(struct live_patch *lpatch, bool enable)
{
	unsigned int attempt = 0;
	struct kpatch_check *check;
	int err;

	check = kpatch_fault() ? NULL : kzalloc(sizeof(*check), GFP_KERNEL);
	if (!check)
		return -ENOMEM;
	check->lpatch = lpatch;
	check->enable = enable;
	check->caller = current;

	WRITE_ONCE(lpatch->transition, true);
	do {
		if (attempt)
			msleep(RETRY_MS);
		err = stop_machine(while_stopped, check, NULL);
	} while ((err == -EBUSY || err == -EAGAIN) && ++attempt < ATTEMPTS);
	WRITE_ONCE(lpatch->transition, false);

	if (err == -EBUSY || err == -EAGAIN) {
		report(check, err);
		err = -EBUSY;
	}
	kfree(check);
	return err;
}
