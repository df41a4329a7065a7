// SPDX-License-Identifier: GPL-2.0-only
/*
 * cleared.c - tasks whose stacks were found clear, and that have not run since
 *
 * A stack that nobody has touched need not be looked at again while the machine
 * is stopped: most tasks sleep, so the stop gets short.
 *
 * Locking: kpatch_mutex. Entries come while their task is kept from running,
 * and are looked up while the machine stands still.
 */
#include <linux/hash.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>

#include "activeness.h"
#include "faults.h"

/*
 * @task is referenced, so that no other can have its address; @switches tells
 * how often it had stopped running.
 */
struct cleared_task {
	struct task_struct *task;
	unsigned long switches;
};

/* Open addressing, at most half full. */
struct kpatch_cleared {
	unsigned int bits;
	unsigned int room;
	struct cleared_task slots[];
};

static unsigned int count_tasks(void)
{
	struct task_struct *process, *task;
	unsigned int count = 0;

	rcu_read_lock();
	for_each_process_thread(process, task)
		count++;
	rcu_read_unlock();
	return count;
}

/**
 * kpatch_cleared_alloc() - an empty table with room for all tasks
 *
 * Return: the table, or NULL without memory: then no task is known to be clear.
 */
struct kpatch_cleared *kpatch_cleared_alloc(void)
{
	unsigned int bits = order_base_2(2 * count_tasks());
	struct kpatch_cleared *cleared;

	if (kpatch_fault() || kpatch_forgets_cleared())
		return NULL;
	cleared = kvzalloc(struct_size(cleared, slots, 1UL << bits), GFP_KERNEL);
	if (!cleared)
		return NULL;
	cleared->bits = bits;
	cleared->room = 1U << (bits - 1);
	return cleared;
}

void kpatch_cleared_free(struct kpatch_cleared *cleared)
{
	unsigned int i;

	if (!cleared)
		return;
	for (i = 0; i < 1U << cleared->bits; i++)
		if (cleared->slots[i].task)
			put_task_struct(cleared->slots[i].task);
	kvfree(cleared);
}

/* The slot of @task, or the empty one where it would be. */
static struct cleared_task *find_slot(struct kpatch_cleared *cleared,
				      const struct task_struct *task)
{
	unsigned int mask = (1U << cleared->bits) - 1;
	unsigned int i = hash_ptr(task, cleared->bits);

	while (cleared->slots[i].task && cleared->slots[i].task != task)
		i = (i + 1) & mask;
	return &cleared->slots[i];
}

/* The scheduler counts when it takes the processor from a task. */
static unsigned long switches(const struct task_struct *task)
{
	return READ_ONCE(task->nvcsw) + READ_ONCE(task->nivcsw);
}

/* @task is clear; the caller keeps it from running. */
void kpatch_cleared_add(struct kpatch_cleared *cleared, struct task_struct *task)
{
	struct cleared_task *slot;

	/* More were born than there was room for. */
	if (!cleared || !cleared->room)
		return;
	slot = find_slot(cleared, task);
	if (slot->task)
		return;
	cleared->room--;
	get_task_struct(task);
	slot->task = task;
	slot->switches = switches(task);
}

/* Whether @task, which does not run, was clear and has not run since. */
bool kpatch_is_cleared(struct kpatch_cleared *cleared, const struct task_struct *task)
{
	const struct cleared_task *slot;

	if (!cleared)
		return false;
	slot = find_slot(cleared, task);
	return slot->task && slot->switches == switches(task);
}
