// SPDX-License-Identifier: GPL-2.0-only
/*
 * bench.c - what benchmarks patch, and what they compare with
 *
 * A read of /proc/kpt_bench tells in nanoseconds how long a stop of the machine
 * for nothing takes, and how long CALLS calls of the first function and of its
 * twin, which nobody patches. As many kernel threads as asked for sleep.
 */
#include <linux/kthread.h>
#include <linux/ktime.h>
#include <linux/mm.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>
#include <linux/stop_machine.h>

#include "bench.h"
#include "kpt.h"

#define CALLS	20000

static uint sleepers;
module_param(sleepers, uint, 0444);
MODULE_PARM_DESC(sleepers, "how many kernel threads sleep");

static struct task_struct **threads;

/* Nobody calls most of them: they are there to be patched. */
#define DEFINE(n) static noipa __used int bench_##n(int value) { return value + (n); }
BENCH_FUNCTIONS(DEFINE)

static noipa int bench_twin(int value)
{
	return value + 1;
}

static int nothing(void *data)
{
	return 0;
}

static u64 time_stop(void)
{
	u64 start = ktime_get_ns();

	stop_machine(nothing, NULL, NULL);
	return ktime_get_ns() - start;
}

static u64 time_patched(void)
{
	u64 start = ktime_get_ns();
	int i;

	for (i = 0; i < CALLS; i++)
		bench_1000(i);
	return ktime_get_ns() - start;
}

static u64 time_twin(void)
{
	u64 start = ktime_get_ns();
	int i;

	for (i = 0; i < CALLS; i++)
		bench_twin(i);
	return ktime_get_ns() - start;
}

static int bench_show(struct seq_file *m, void *v)
{
	seq_printf(m, "stop %llu\n", time_stop());
	seq_printf(m, "patched %llu\n", time_patched());
	seq_printf(m, "twin %llu\n", time_twin());
	return 0;
}

static int sleeper_fn(void *data)
{
	set_current_state(TASK_IDLE);
	while (!kthread_should_stop()) {
		schedule();
		set_current_state(TASK_IDLE);
	}
	__set_current_state(TASK_RUNNING);
	return 0;
}

static void stop_sleepers(void)
{
	unsigned int i;

	for (i = 0; i < sleepers && threads[i]; i++)
		kthread_stop(threads[i]);
	kvfree(threads);
}

static int start_sleepers(void)
{
	struct task_struct *thread;
	unsigned int i;

	threads = kvcalloc(sleepers + 1, sizeof(*threads), GFP_KERNEL);
	if (!threads)
		return -ENOMEM;
	for (i = 0; i < sleepers; i++) {
		thread = kthread_run(sleeper_fn, NULL, "kpt_sleeper/%u", i);
		if (IS_ERR(thread)) {
			stop_sleepers();
			return PTR_ERR(thread);
		}
		threads[i] = thread;
	}
	return 0;
}

static int __init bench_init(void)
{
	int err;

	err = start_sleepers();
	if (err)
		return err;
	if (!proc_create_single("kpt_bench", 0444, NULL, bench_show)) {
		stop_sleepers();
		return -ENOMEM;
	}
	return 0;
}

static void __exit bench_exit(void)
{
	remove_proc_entry("kpt_bench", NULL);
	stop_sleepers();
}

module_init(bench_init);
module_exit(bench_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Five hundred functions to be patched");
