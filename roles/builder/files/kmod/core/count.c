// SPDX-License-Identifier: GPL-2.0-only
/*
 * count.c - the model in which calls are counted in and out (M. Hiramatsu)
 *
 * While calls of the patched set are under way, the count is above zero and
 * further calls reach the old functions. It is zero for a moment: the switch is
 * to make it negative then, and calls reach the new functions.
 *
 * A return probe on each function counts a call out. Its entry handler and the
 * core's own handler run one after the other, in an order that nobody knows,
 * and have to agree: the first of the two decides and the second follows. Both
 * run with preemption off, so a stash for each processor and level of interrupt
 * is enough to hand the decision over.
 *
 * Locking: kpatch_mutex. A processor's flag and its stash are changed by a
 * worker that runs there with interrupts off, when no handler can be half done.
 */
#include <linux/atomic.h>
#include <linux/cpu.h>
#include <linux/kprobes.h>
#include <linux/percpu.h>
#include <linux/preempt.h>
#include <linux/slab.h>
#include <linux/workqueue.h>

#include "core.h"
#include "count.h"
#include "transition.h"

/* Calls under way at once for which there is room; more make it fail cleanly. */
#define MAX_CALLS	256
#define SWITCHED	INT_MIN
/* How often zero is looked for in one step. */
#define TRIES		2000

struct stash {
	void *regs;
	bool by_probe;
	bool old;
};

enum { IN_TASK, IN_SOFTIRQ, IN_HARDIRQ, IN_NMI, LEVELS };

static atomic_t calls;
static bool lost;
static DEFINE_PER_CPU(bool, counting);
static DEFINE_PER_CPU(struct stash [LEVELS], stashes);

struct counter {
	struct kretprobe probe;
	unsigned long address;
};

static struct counter *counters;
static unsigned int nr_counters;
static bool all_seen_outside;

static __always_inline unsigned int level(void)
{
	if (in_nmi())
		return IN_NMI;
	if (in_hardirq())
		return IN_HARDIRQ;
	return in_serving_softirq() ? IN_SOFTIRQ : IN_TASK;
}

static notrace bool decide(void *regs, bool by_probe)
{
	struct stash *stash = &raw_cpu_ptr(stashes)[level()];

	if (stash->regs == regs && stash->by_probe != by_probe) {
		stash->regs = NULL;
		return stash->old;
	}
	/* The other one did not come for the last call. */
	if (stash->regs)
		WRITE_ONCE(lost, true);
	stash->regs = regs;
	stash->by_probe = by_probe;
	stash->old = atomic_inc_unless_negative(&calls);
	return stash->old;
}

/* For universe.c, with preemption off: the universe of this call. */
notrace enum kpatch_universe kpatch_count_call(void *regs)
{
	if (!raw_cpu_read(counting))
		return KPATCH_OLD;
	return decide(regs, false) ? KPATCH_OLD : KPATCH_NEW;
}

/* Preemption is off, as kprobes have it. Returns 0 to be told of the return. */
static int at_entry(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	return raw_cpu_read(counting) && decide(regs, true) ? 0 : 1;
}

static int at_return(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	atomic_dec(&calls);
	return 0;
}

static long count_here(void *data)
{
	unsigned long flags;

	local_irq_save(flags);
	memset(this_cpu_ptr(stashes), 0, sizeof(struct stash [LEVELS]));
	this_cpu_write(counting, data);
	local_irq_restore(flags);
	return 0;
}

static void count_everywhere(bool on)
{
	unsigned int cpu;

	cpus_read_lock();
	for_each_possible_cpu(cpu) {
		if (cpu_online(cpu))
			work_on_cpu(cpu, count_here, on ? &calls : NULL);
		else
			per_cpu(counting, cpu) = on;
	}
	cpus_read_unlock();
}

static bool has_counter(unsigned long address)
{
	unsigned int i;

	for (i = 0; i < nr_counters; i++)
		if (counters[i].address == address)
			return true;
	return false;
}

static int add_counter(struct live_func *func)
{
	struct counter *counter = &counters[nr_counters];
	int err;

	counter->address = kpatch_entry(&func->old_code);
	/* A patch that comes and one that goes may replace the same function. */
	if (has_counter(counter->address))
		return 0;
	counter->probe.kp.addr = (kprobe_opcode_t *)counter->address;
	counter->probe.entry_handler = at_entry;
	counter->probe.handler = at_return;
	counter->probe.maxactive = MAX_CALLS;
	err = kpatch_fault() ?: register_kretprobe(&counter->probe);
	if (err)
		kpatch_refuse("calls of %s can't be counted: kprobes says %d",
			      func->func->name, err);
	else
		nr_counters++;
	return err;
}

static unsigned int count_funcs(void)
{
	struct live_patch *lpatch;
	struct live_object *obj;
	unsigned int nr = 0;

	for_each_live_patch(lpatch)
		if (lpatch->role != LIVE_STAYS)
			for_each_live_object(lpatch, obj)
				nr += obj->object->nr_funcs;
	return nr;
}

static int add_object_counters(struct live_object *obj)
{
	struct live_func *func;
	int err;

	if (!obj->attached)
		return 0;
	for_each_live_func(obj, func) {
		err = add_counter(func);
		if (err)
			return err;
		WRITE_ONCE(func->counted, true);
	}
	return 0;
}

static int add_counters(void)
{
	struct live_patch *lpatch;
	struct live_object *obj;
	int err;

	counters = kvcalloc(count_funcs(), sizeof(*counters), GFP_KERNEL);
	if (!counters || kpatch_fault())
		return -ENOMEM;
	for_each_live_patch(lpatch) {
		if (lpatch->role == LIVE_STAYS)
			continue;
		for_each_live_object(lpatch, obj) {
			err = add_object_counters(obj);
			if (err)
				return err;
		}
	}
	return 0;
}

static void remove_counters(void)
{
	struct live_patch *lpatch;
	struct live_object *obj;
	struct live_func *func;

	while (nr_counters)
		unregister_kretprobe(&counters[--nr_counters].probe);
	kvfree(counters);
	counters = NULL;
	for_each_live_patch(lpatch)
		for_each_live_object(lpatch, obj)
			for_each_live_func(obj, func)
				func->counted = false;
}

static int begin(struct kpatch_transition *transition)
{
	int err;

	atomic_set(&calls, 0);
	lost = false;
	all_seen_outside = false;
	kpatch_rule_by(KPATCH_BY_COUNT, KPATCH_OLD);
	kpatch_publish();
	err = add_counters();
	if (err)
		return err;
	err = kpatch_members_begin(KPATCH_OLD, NULL);
	if (err)
		return err;
	count_everywhere(true);
	/* Uncounted calls are under way in tasks that are in the table only. */
	kpatch_synchronize_handlers();
	kpatch_members_complete();
	kpatch_leave_towards(KPATCH_NEW);
	return 0;
}

static bool any_missed(void)
{
	unsigned int i;

	for (i = 0; i < nr_counters; i++)
		if (counters[i].probe.nmissed || counters[i].probe.kp.nmissed)
			return true;
	return READ_ONCE(lost);
}

static bool zero_found(void)
{
	unsigned int i;

	for (i = 0; i < TRIES; i++) {
		if (!atomic_cmpxchg(&calls, 0, SWITCHED))
			return true;
		cpu_relax();
	}
	return false;
}

static int step(struct kpatch_transition *transition)
{
	enum kpatch_verdict verdict;

	if (any_missed()) {
		kpatch_refuse("%s can't be switched by counting: a call could not be counted",
			      transition->lpatch->patch->owner->name);
		return -EIO;
	}
	if (!all_seen_outside && kpatch_leave_step(transition))
		return -EBUSY;
	all_seen_outside = true;
	if (zero_found())
		return 0;
	verdict = kpatch_check_living(&transition->check);
	if (verdict != KPATCH_LEFT)
		kpatch_note(transition, verdict);
	return -EBUSY;
}

static int retreat(struct kpatch_transition *transition)
{
	return 0;
}

static void end(void)
{
	if (!counters)
		return;
	count_everywhere(false);
	remove_counters();
}

const struct kpatch_model kpatch_by_counting = {
	.begin = begin,
	.step = step,
	.retreat = retreat,
	.end = end,
	.pause_ms = 5,
};
