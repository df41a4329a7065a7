// SPDX-License-Identifier: GPL-2.0-only
/*
 * calls.c - counts the calls of functions that are switched in, and out again
 *
 * Three handlers see each call. The first decides: it counts the call in, or
 * finds it switched, and leaves that in a stash. The entry handler of a return
 * probe takes the stash, so that the return counts the call out; the core's own
 * sends the call where the stash says. These two come in an order that nobody
 * knows, but the first is the newest user of ftrace, which calls the newest
 * first. All run with preemption off, so a stash for each processor and level
 * of interrupt is enough.
 *
 * Kprobes misses calls: those of interrupts that come while it is busy, and
 * those for which it has no instance. They are counted in and never out, so that
 * nothing can switch any more. Counting has to begin anew then, with another
 * generation: the return of a call that was counted in an earlier one does not
 * count.
 *
 * Locking: kpatch_mutex. @calls holds generation and count in one word, so that
 * a call is counted in the generation that it sees, or not at all. A stash is
 * its processor's, and cleared while nobody uses it.
 */
#include <linux/atomic.h>
#include <linux/ftrace.h>
#include <linux/kprobes.h>
#include <linux/percpu.h>
#include <linux/preempt.h>
#include <linux/slab.h>

#include "calls.h"
#include "compat.h"
#include "core.h"

/* Calls under way at once for which there is room; more are missed. */
#define MAX_CALLS	256
#define GENERATION_SHIFT 32
#define SWITCHED	S64_MIN

/* What was decided about the call that its handlers are looking at. */
struct stash {
	enum kpatch_universe universe;
	u32 generation;
	/* Counted in, and nobody has seen to it that it is counted out. */
	bool open;
};

enum { IN_TASK, IN_SOFTIRQ, IN_HARDIRQ, IN_NMI, LEVELS };

static atomic64_t calls;
static DEFINE_PER_CPU(struct stash [LEVELS], stashes);

struct counter {
	struct kretprobe probe;
	unsigned long address;
};

static struct counter *counters;
static unsigned int nr_counters;
static bool deciding;

static u32 generation;
/* How many calls kprobes had missed when this generation began. */
static unsigned long missed_before;
/* A call was missed of which kprobes did not say so. */
static bool lost;

static __always_inline unsigned int level(void)
{
	if (in_nmi())
		return IN_NMI;
	if (in_hardirq())
		return IN_HARDIRQ;
	return in_serving_softirq() ? IN_SOFTIRQ : IN_TASK;
}

static __always_inline struct stash *this_stash(void)
{
	return &raw_cpu_ptr(stashes)[level()];
}

/* No call of this generation is under way. */
static s64 zero(void)
{
	return (s64)generation << GENERATION_SHIFT;
}

static notrace bool count_in(u32 *counted_in)
{
	s64 now = atomic64_read(&calls);

	do {
		if (now < 0)
			return false;
		/* Pairs with the other changes of @calls, all of them fully ordered. */
	} while (!atomic64_try_cmpxchg(&calls, &now, now + 1));
	*counted_in = now >> GENERATION_SHIFT;
	return true;
}

static notrace void count_out(u32 counted_in)
{
	s64 now = atomic64_read(&calls);

	do {
		if (now >> GENERATION_SHIFT != counted_in)
			return;
		/* As above: what the function did comes before the switch. */
	} while (!atomic64_try_cmpxchg(&calls, &now, now - 1));
}

/* The first of the three handlers. */
static void notrace decide(unsigned long ip, unsigned long parent_ip,
			   struct ftrace_ops *ops, KPATCH_REGS *regs)
{
	struct stash *stash = this_stash();

	if (stash->open && atomic64_read(&calls) >> GENERATION_SHIFT == stash->generation)
		WRITE_ONCE(lost, true);
	stash->open = count_in(&stash->generation);
	stash->universe = stash->open ? KPATCH_OLD : KPATCH_NEW;
}

static struct ftrace_ops decider = {
	.func = decide,
};

/* For universe.c, with preemption off: the universe of this call. */
notrace enum kpatch_universe kpatch_universe_of_counted(void)
{
	return this_stash()->universe;
}

/* Preemption is off, as kprobes have it. Returns 0 to be told of the return. */
static int at_entry(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	struct stash *stash = this_stash();

	if (!stash->open || kpatch_misses_call())
		return 1;
	stash->open = false;
	*(u32 *)instance->data = stash->generation;
	return 0;
}

static int at_return(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	count_out(*(u32 *)instance->data);
	return 0;
}

static bool has_counter(unsigned long address)
{
	unsigned int i;

	for (i = 0; i < nr_counters; i++)
		if (counters[i].address == address)
			return true;
	return false;
}

static int set_counter(struct counter *counter)
{
	unsigned long ip = kpatch_ftrace_location(counter->address);
	int err;

	/* The first one takes away what could not be cleared the last time. */
	err = kpatch_fault() ?: ftrace_set_filter_ip(&decider, ip, 0, !nr_counters);
	if (err)
		return err;
	counter->probe.kp.addr = (kprobe_opcode_t *)counter->address;
	counter->probe.entry_handler = at_entry;
	counter->probe.handler = at_return;
	counter->probe.data_size = sizeof(u32);
	counter->probe.maxactive = MAX_CALLS;
	return kpatch_fault() ?: register_kretprobe(&counter->probe);
}

static int add_counter(struct live_func *func)
{
	struct counter *counter = &counters[nr_counters];
	unsigned long address = kpatch_entry(&func->old_code);
	int err;

	/* A patch that comes and one that goes may replace the same function. */
	if (has_counter(address))
		return 0;
	counter->address = address;
	err = set_counter(counter);
	if (err)
		kpatch_refuse("calls of %s can't be counted: the kernel says %d",
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
		/* Nobody can call it: its module is held. */
		if (func->func->exit)
			continue;
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

static int start_deciding(void)
{
	int err;

	/* Without a function in its filter it would be called for all there are. */
	if (!nr_counters)
		return 0;
	err = kpatch_fault() ?: register_ftrace_function(&decider);
	deciding = !err;
	return err;
}

static void clear_stashes(void)
{
	unsigned int cpu;

	for_each_possible_cpu(cpu)
		memset(per_cpu(stashes, cpu), 0, sizeof(struct stash [LEVELS]));
}

/* No handler asks for the universe of a counted call any more. */
void kpatch_calls_end(void)
{
	struct live_patch *lpatch;
	struct live_object *obj;
	struct live_func *func;

	if (deciding)
		unregister_ftrace_function(&decider);
	deciding = false;
	while (nr_counters)
		unregister_kretprobe(&counters[--nr_counters].probe);
	ftrace_set_filter(&decider, NULL, 0, 1);
	kvfree(counters);
	counters = NULL;
	clear_stashes();
	for_each_live_patch(lpatch)
		for_each_live_object(lpatch, obj)
			for_each_live_func(obj, func)
				func->counted = false;
}

static unsigned long count_missed(void)
{
	unsigned long missed = 0;
	unsigned int i;

	for (i = 0; i < nr_counters; i++)
		missed += READ_ONCE(counters[i].probe.nmissed) +
			  READ_ONCE(counters[i].probe.kp.nmissed);
	return missed;
}

/* Whether a call of this generation was counted in and will not be counted out. */
bool kpatch_calls_missed(void)
{
	return READ_ONCE(lost) || count_missed() != missed_before;
}

/**
 * kpatch_calls_anew() - forget the calls that are under way
 *
 * They are so in tasks that are on the list of tasks when this has returned.
 */
void kpatch_calls_anew(void)
{
	missed_before = count_missed();
	WRITE_ONCE(lost, false);
	generation++;
	/* Fully ordered: who is not on the list yet sees it in count_in(). */
	atomic64_xchg(&calls, zero());
}

/* Makes all calls new if none is under way. */
bool kpatch_calls_switch(void)
{
	return atomic64_cmpxchg(&calls, zero(), SWITCHED) == zero();
}

/**
 * kpatch_calls_begin() - count the calls of all functions that are switched
 *
 * Those that begin after this and kpatch_synchronize_handlers().
 *
 * Return: 0 or a negative error code; call kpatch_calls_end() in any case.
 */
int kpatch_calls_begin(void)
{
	/* What was switched the last time is not yet this time. */
	kpatch_calls_anew();
	return add_counters() ?: start_deciding();
}
