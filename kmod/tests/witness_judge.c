// SPDX-License-Identifier: GPL-2.0-only
/*
 * witness_judge.c - counts what no model may let happen that promises otherwise
 *
 * An era begins with each switch, and has the version that it switches to as
 * its target: the odd ones the new one. The controller writes to
 * /proc/kpt_judge: "switch" before it switches; "retreat" if that was taken
 * back, since threads may go back then too. A read gives the counters.
 *
 * No locking: counters are atomic, an era only grows. Whoever judges has read
 * the era before it was decided which version it runs (witness_step()), and
 * leaves what happened while an era began unjudged.
 */
#include <linux/atomic.h>
#include <linux/delay.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "kpt.h"
#include "witness.h"

static const char * const level_names[WITNESS_LEVELS] = {
	[WITNESS_CALL] = "call",
	[WITNESS_SYSCALL] = "syscall",
	[WITNESS_THREAD] = "thread",
	[WITNESS_KERNEL] = "kernel",
};

static unsigned int era;
/* The latest era whose target somebody has run. */
static unsigned int turned;
static atomic_long_t entries[2];
/* What the era that is under way brought, and what those before it did. */
static atomic_long_t pending[WITNESS_LEVELS];
static atomic_long_t total[WITNESS_LEVELS];

static enum witness_version target(unsigned int number)
{
	return number & 1 ? WITNESS_NEW : WITNESS_OLD;
}

/* Before each call of a function that a patch replaces. */
void witness_step(struct witness_visitor *visitor)
{
	visitor->before = READ_ONCE(era);
	barrier();
}
EXPORT_SYMBOL_GPL(witness_step);

void witness_count(enum witness_level level)
{
	atomic_long_inc(&pending[level]);
}
EXPORT_SYMBOL_GPL(witness_count);

/* The first thing that each version does. */
void witness_enter(struct witness_visitor *visitor, enum witness_version version)
{
	unsigned int now = READ_ONCE(era);

	atomic_long_inc(&entries[version]);
	visitor->versions |= BIT(version);
	if (now != visitor->before)
		return;
	if (version == target(now)) {
		visitor->turned = now;
		WRITE_ONCE(turned, now);
		return;
	}
	if (visitor->thread && visitor->turned == now)
		witness_count(WITNESS_THREAD);
	if (READ_ONCE(turned) == now)
		witness_count(WITNESS_KERNEL);
}
EXPORT_SYMBOL_GPL(witness_enter);

/* The last thing that each version does. */
void witness_leave(enum witness_version version)
{
	unsigned int now = READ_ONCE(era);

	if (version != target(now) && READ_ONCE(turned) == now)
		witness_count(WITNESS_KERNEL);
}
EXPORT_SYMBOL_GPL(witness_leave);

/* Inside the functions: so that switches meet somebody there. */
void witness_pause(const struct witness_visitor *visitor)
{
	unsigned int i;

	if (visitor->pauses & WITNESS_SPIN)
		for (i = 0; i < 1000; i++)
			cpu_relax();
	if (visitor->pauses & WITNESS_SLEEP)
		usleep_range(500, 2000);
}
EXPORT_SYMBOL_GPL(witness_pause);

/* What is patched of this module; the patch turns the two numbers round. */
noipa long witness_difference(struct witness_visitor *visitor, long larger, long smaller)
{
	witness_enter(visitor, WITNESS_OLD);
	witness_pause(visitor);
	witness_leave(WITNESS_OLD);
	return larger - smaller;
}
EXPORT_SYMBOL_GPL(witness_difference);

static int judge_show(struct seq_file *m, void *v)
{
	unsigned int i;

	seq_printf(m, "era %u\n", READ_ONCE(era));
	seq_printf(m, "old %ld\n", atomic_long_read(&entries[WITNESS_OLD]));
	seq_printf(m, "new %ld\n", atomic_long_read(&entries[WITNESS_NEW]));
	for (i = 0; i < WITNESS_LEVELS; i++)
		seq_printf(m, "%s %ld\n", level_names[i],
			   atomic_long_read(&total[i]) + atomic_long_read(&pending[i]));
	return 0;
}

static int judge_open(struct inode *inode, struct file *file)
{
	return single_open(file, judge_show, NULL);
}

static void close_era(bool retreat)
{
	unsigned int i;

	for (i = 0; i < WITNESS_LEVELS; i++) {
		long count = atomic_long_xchg(&pending[i], 0);

		if (retreat && (i == WITNESS_THREAD || i == WITNESS_KERNEL))
			continue;
		atomic_long_add(count, &total[i]);
	}
}

static ssize_t judge_write(struct file *file, const char __user *buffer, size_t count,
			   loff_t *position)
{
	char word[16] = "";

	if (copy_from_user(word, buffer, min(count, sizeof(word) - 1)))
		return -EFAULT;
	if (sysfs_streq(word, "switch")) {
		close_era(false);
		WRITE_ONCE(era, era + 1);
	} else if (sysfs_streq(word, "retreat")) {
		/* The next attempt has the same target. */
		WRITE_ONCE(era, era + 1);
		close_era(true);
	} else {
		return -EINVAL;
	}
	return count;
}

static const struct proc_ops judge_ops = {
	.proc_open = judge_open,
	.proc_read = seq_read,
	.proc_lseek = seq_lseek,
	.proc_write = judge_write,
	.proc_release = single_release,
};

static int __init judge_init(void)
{
	return proc_create("kpt_judge", 0644, NULL, &judge_ops) ? 0 : -ENOMEM;
}

static void __exit judge_exit(void)
{
	remove_proc_entry("kpt_judge", NULL);
}

module_init(judge_init);
module_exit(judge_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Counts mixtures of old and new functions");
