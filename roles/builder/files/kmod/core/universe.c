// SPDX-License-Identifier: GPL-2.0-only
/*
 * universe.c - which functions a call reaches while a transition is under way
 *
 * Where tasks switch one by one, every task has its universe in a table; a
 * task that is not in the table is in everyone's. Everyone's changes only
 * while each task, newborn ones included, is in the table: so no task's
 * universe changes unless something has looked at that task.
 *
 * Locking: kpatch_mutex, and members_lock for the table, to which newborn tasks
 * are added where nobody may sleep. The table is read with preemption off and
 * nothing leaves it before kpatch_members_end().
 */
#include <linux/hash.h>
#include <linux/mm.h>
#include <linux/rculist.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/tracepoint.h>

#include "core.h"
#include "calls.h"
#include "universe.h"

#define TABLE_BITS	10
/* Entries in stock for tasks that are born where memory can't be waited for. */
#define STOCK		64

static enum kpatch_rule rule;
static enum kpatch_universe everyone;

static struct hlist_head table[1 << TABLE_BITS];
static DEFINE_RAW_SPINLOCK(members_lock);
static HLIST_HEAD(stock);
static unsigned int in_stock;
static bool missed;
static enum kpatch_universe universe_of_newborns;
static void (*tell_newborn)(struct kpatch_member *member);
static struct tracepoint *birth;
static bool watching;

static notrace struct kpatch_member *find_member(const struct task_struct *task)
{
	struct hlist_node *node = READ_ONCE(table[hash_ptr(task, TABLE_BITS)].first);

	for (; node; node = READ_ONCE(node->next)) {
		struct kpatch_member *member = hlist_entry(node, struct kpatch_member, node);

		if (member->task == task)
			return member;
	}
	return NULL;
}

/* For redirect.c, with preemption off: the universe that this call is in. */
notrace enum kpatch_universe kpatch_universe_of_call(struct live_func *func)
{
	struct kpatch_member *member;

	switch (READ_ONCE(rule)) {
	case KPATCH_BY_FUNCTION:
		return READ_ONCE(func->universe);
	case KPATCH_BY_TASK:
		/* An interrupt is in the universe of the task that it interrupted. */
		member = find_member(current);
		if (member)
			return READ_ONCE(member->universe);
		break;
	case KPATCH_BY_COUNT:
		if (READ_ONCE(func->counted))
			return kpatch_universe_of_counted();
		break;
	case KPATCH_BY_FLAG:
		break;
	}
	return READ_ONCE(everyone);
}

/* What is set here is seen by whoever is let past kpatch_synchronize_handlers() later. */
void kpatch_rule_by(enum kpatch_rule new_rule, enum kpatch_universe universe)
{
	WRITE_ONCE(everyone, universe);
	WRITE_ONCE(rule, new_rule);
}

static struct kpatch_member *from_stock(void)
{
	struct kpatch_member *member;

	if (!stock.first)
		return NULL;
	member = hlist_entry(stock.first, struct kpatch_member, node);
	hlist_del(&member->node);
	in_stock--;
	return member;
}

/* Returns the task's new entry; NULL if it has one or there is none left. */
static struct kpatch_member *add_member(struct task_struct *task, enum kpatch_universe universe)
{
	struct kpatch_member *member = NULL;
	unsigned long flags;

	raw_spin_lock_irqsave(&members_lock, flags);
	if (find_member(task))
		goto unlock;
	member = from_stock();
	if (!member) {
		missed = true;
		goto unlock;
	}
	get_task_struct(task);
	member->task = task;
	member->universe = universe;
	/* Pairs with the reading of first and next in find_member(). */
	hlist_add_head_rcu(&member->node, &table[hash_ptr(task, TABLE_BITS)]);
unlock:
	raw_spin_unlock_irqrestore(&members_lock, flags);
	return member;
}

/* On the task list already, but has not run yet. */
static void newborn(void *data, struct task_struct *task, unsigned long clone_flags)
{
	struct kpatch_member *member;

	member = add_member(task, universe_of_newborns);
	if (member && tell_newborn)
		tell_newborn(member);
}

static void find_birth(struct tracepoint *point, void *data)
{
	/* Not sched_process_fork, which io_uring's workers do not pass. */
	if (!strcmp(point->name, "task_newtask"))
		birth = point;
}

static unsigned int count_tasks(void)
{
	struct task_struct *process, *task;
	unsigned int nr = num_possible_cpus();

	rcu_read_lock();
	for_each_process_thread(process, task)
		nr++;
	rcu_read_unlock();
	return nr;
}

static int fill_stock(unsigned int wanted)
{
	struct kpatch_member *member;
	unsigned long flags;

	while (READ_ONCE(in_stock) < wanted) {
		member = kzalloc(sizeof(*member), GFP_KERNEL);
		if (!member)
			return -ENOMEM;
		raw_spin_lock_irqsave(&members_lock, flags);
		hlist_add_head(&member->node, &stock);
		in_stock++;
		raw_spin_unlock_irqrestore(&members_lock, flags);
	}
	return 0;
}

static void add_all(enum kpatch_universe universe)
{
	struct task_struct *process, *task;
	unsigned int cpu;

	rcu_read_lock();
	for_each_process_thread(process, task)
		add_member(task, universe);
	rcu_read_unlock();
	for_each_possible_cpu(cpu) {
		task = kpatch_idle_task(cpu);
		if (task)
			add_member(task, universe);
	}
}

static int watch_births(void)
{
	int err;

	err = kpatch_fault() ?: tracepoint_probe_register(birth, newborn, NULL);
	if (err)
		return err;
	watching = true;
	/* A task born unwatched is on the list of tasks once this has returned. */
	tracepoint_synchronize_unregister();
	return 0;
}

/* A newborn task is not in the table, because memory couldn't be waited for. */
bool kpatch_members_missed(void)
{
	return READ_ONCE(missed);
}

/* Add those that are not in the table. */
int kpatch_members_again(enum kpatch_universe universe)
{
	int err;

	do {
		err = kpatch_fault() ?: fill_stock(count_tasks() + STOCK);
		if (err)
			return err;
		WRITE_ONCE(missed, false);
		add_all(universe);
	} while (kpatch_members_missed());
	return 0;
}

/**
 * kpatch_members_begin() - have every task in the table
 * @universe:	of those that are not in it yet, and of newborn ones
 * @tell:	called for newborn ones, with preemption off; may be NULL
 *
 * Everyone's universe may be changed afterwards, until
 * kpatch_members_complete().
 *
 * Return: 0 or a negative error code; call kpatch_members_end() then.
 */
int kpatch_members_begin(enum kpatch_universe universe, void (*tell)(struct kpatch_member *))
{
	int err;

	universe_of_newborns = universe;
	tell_newborn = tell;
	err = watch_births();
	if (err)
		return err;
	return kpatch_members_again(universe);
}

/* Tasks that are born from now on are in everyone's universe. */
void kpatch_members_complete(void)
{
	if (!watching)
		return;
	tracepoint_probe_unregister(birth, newborn, NULL);
	tracepoint_synchronize_unregister();
	watching = false;
}

static void free_list(struct hlist_head *list)
{
	struct kpatch_member *member;
	struct hlist_node *next;

	hlist_for_each_entry_safe(member, next, list, node) {
		hlist_del(&member->node);
		if (member->task)
			put_task_struct(member->task);
		kfree(member);
	}
}

/* Nobody reads the table any more, and no member has work pending. */
void kpatch_members_end(void)
{
	unsigned int i;

	kpatch_members_complete();
	for (i = 0; i < ARRAY_SIZE(table); i++)
		free_list(&table[i]);
	free_list(&stock);
	in_stock = 0;
}

/* Stops at the first that @visit returns an error for, and returns that. */
int kpatch_each_member(int (*visit)(struct kpatch_member *member, void *data), void *data)
{
	struct kpatch_member *member;
	unsigned int i;
	int err;

	for (i = 0; i < ARRAY_SIZE(table); i++) {
		hlist_for_each_entry_rcu(member, &table[i], node, true) {
			err = visit(member, data);
			if (err)
				return err;
		}
	}
	return 0;
}

int kpatch_universe_init(void)
{
	for_each_kernel_tracepoint(find_birth, NULL);
	return birth ? 0 : -EOPNOTSUPP;
}
