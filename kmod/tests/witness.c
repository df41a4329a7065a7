// SPDX-License-Identifier: GPL-2.0-only
/*
 * witness.c - calls functions whose calling convention changes, from everywhere
 *
 * A reader of /proc/kpt_visit visits from a system call; the position that it
 * reads at says how it pauses (WITNESS_SPIN and so on). Kernel threads and a
 * timer visit as long as the module is loaded.
 */
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/proc_fs.h>
#include <linux/slab.h>
#include <linux/timer.h>

#include "compat.h"
#include "kpt.h"
#include "witness.h"

#define VISITS_PER_SYSCALL	4

static struct task_struct *threads[2];
static struct timer_list timer;
static struct witness_visitor softirq;

static void ask(struct witness_visitor *visitor)
{
	witness_step(visitor);
	if (witness_difference(visitor, WITNESS_LARGER, WITNESS_SMALLER) !=
	    WITNESS_LARGER - WITNESS_SMALLER)
		witness_count(WITNESS_CALL);
}

static noipa void witness_caller(struct witness_visitor *visitor)
{
	witness_enter(visitor, WITNESS_OLD);
	ask(visitor);
	witness_pause(visitor);
	ask(visitor);
	witness_leave(WITNESS_OLD);
}

static void visit(struct witness_visitor *visitor)
{
	witness_step(visitor);
	witness_caller(visitor);
}

static ssize_t visit_read(struct file *file, char __user *buffer, size_t count,
			  loff_t *position)
{
	struct witness_visitor *visitor = file->private_data;
	int i;

	visitor->pauses = *position;
	visitor->versions = 0;
	for (i = 0; i < VISITS_PER_SYSCALL; i++) {
		visit(visitor);
		if (visitor->pauses & WITNESS_LINGER)
			usleep_range(2000, 8000);
	}
	if (visitor->versions == (BIT(WITNESS_OLD) | BIT(WITNESS_NEW)))
		witness_count(WITNESS_SYSCALL);
	return 0;
}

/* Each opener is one thread. */
static int visit_open(struct inode *inode, struct file *file)
{
	struct witness_visitor *visitor = kzalloc(sizeof(*visitor), GFP_KERNEL);

	if (!visitor)
		return -ENOMEM;
	visitor->thread = true;
	file->private_data = visitor;
	return 0;
}

static int visit_release(struct inode *inode, struct file *file)
{
	kfree(file->private_data);
	return 0;
}

static const struct proc_ops visit_ops = {
	.proc_open = visit_open,
	.proc_read = visit_read,
	.proc_release = visit_release,
};

static int thread_fn(void *data)
{
	struct witness_visitor visitor = { .pauses = (unsigned long)data, .thread = true };

	while (!kthread_should_stop()) {
		visit(&visitor);
		usleep_range(2000, 8000);
	}
	return 0;
}

static void timer_fn(struct timer_list *unused)
{
	visit(&softirq);
	mod_timer(&timer, jiffies + 1);
}

static void stop_threads(void)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(threads); i++)
		if (!IS_ERR_OR_NULL(threads[i]))
			kthread_stop(threads[i]);
}

static int start_threads(void)
{
	static const unsigned long pauses[ARRAY_SIZE(threads)] = { WITNESS_SPIN, WITNESS_SLEEP };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(threads); i++) {
		threads[i] = kthread_run(thread_fn, (void *)pauses[i], "kpt_visitor/%u", i);
		if (IS_ERR(threads[i])) {
			stop_threads();
			return PTR_ERR(threads[i]);
		}
	}
	return 0;
}

static int __init witness_init(void)
{
	int err;

	err = start_threads();
	if (err)
		return err;
	if (!proc_create("kpt_visit", 0444, NULL, &visit_ops)) {
		stop_threads();
		return -ENOMEM;
	}
	timer_setup(&timer, timer_fn, 0);
	mod_timer(&timer, jiffies + 1);
	return 0;
}

static void __exit witness_exit(void)
{
	kpatch_timer_delete_sync(&timer);
	remove_proc_entry("kpt_visit", NULL);
	stop_threads();
}

module_init(witness_init);
module_exit(witness_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Calls functions whose calling convention changes");
