// SPDX-License-Identifier: GPL-2.0-only
/*
 * target.c - a module to be patched
 *
 * /proc/kpt_target says what its functions return now, and what target_value()
 * returned while the module was initialised. A reader of /proc/kpt_sleep sleeps
 * inside target_sleep() until somebody writes to that file, or until a signal;
 * one of /proc/kpt_deep sleeps there until somebody writes to /proc/kpt_sleep.
 */
#include <linux/proc_fs.h>
#include <linux/seq_file.h>
#include <linux/wait.h>

#include "compat.h"
#include "kpt.h"
#include "target.h"

static DECLARE_WAIT_QUEUE_HEAD(sleepers);
static unsigned int wakeups;
static int value_in_init;
/* Only a relocation finds it; a parameter, so that it is not taken as constant. */
static int target_secret = 40;
module_param(target_secret, int, 0444);
MODULE_PARM_DESC(target_secret, "what target_helper() adds one to");

static noipa int target_helper(void)
{
	return target_secret + 1;
}

static noipa int target_value(void)
{
	return 1;
}

static noipa int target_twin(void)
{
	return 10;
}

static notrace noipa int target_notrace(void)
{
	return 100;
}

static noipa int target_sleep(bool deep)
{
	unsigned int before = READ_ONCE(wakeups);

	if (deep) {
		wait_event(sleepers, READ_ONCE(wakeups) != before);
		return 0;
	}
	return wait_event_interruptible(sleepers, READ_ONCE(wakeups) != before);
}

static int target_show(struct seq_file *m, void *v)
{
	seq_printf(m, "value %d\nin_init %d\n", target_value(), value_in_init);
	seq_printf(m, "first %d\nsecond %d\n", target_twin(), target_other_twin());
	seq_printf(m, "notrace %d\nhelper %d\n", target_notrace(), target_helper());
	return 0;
}

static int sleep_show(struct seq_file *m, void *v)
{
	int err = target_sleep(m->private);

	if (!err)
		seq_puts(m, "woken\n");
	return err;
}

static int sleep_open(struct inode *inode, struct file *file)
{
	return single_open(file, sleep_show, pde_data(inode));
}

static ssize_t sleep_write(struct file *file, const char __user *buffer, size_t count,
			   loff_t *position)
{
	WRITE_ONCE(wakeups, wakeups + 1);
	wake_up_all(&sleepers);
	return count;
}

static const struct proc_ops sleep_ops = {
	.proc_open = sleep_open,
	.proc_read = seq_read,
	.proc_write = sleep_write,
	.proc_release = single_release,
};

static int __init target_init(void)
{
	value_in_init = target_value();
	if (!proc_create_single("kpt_target", 0444, NULL, target_show))
		return -ENOMEM;
	if (!proc_create("kpt_sleep", 0644, NULL, &sleep_ops))
		goto remove_target;
	if (!proc_create_data("kpt_deep", 0444, NULL, &sleep_ops, &wakeups))
		goto remove_sleep;
	return 0;

remove_sleep:
	remove_proc_entry("kpt_sleep", NULL);
remove_target:
	remove_proc_entry("kpt_target", NULL);
	return -ENOMEM;
}

static void __exit target_exit(void)
{
	remove_proc_entry("kpt_deep", NULL);
	remove_proc_entry("kpt_sleep", NULL);
	remove_proc_entry("kpt_target", NULL);
}

module_init(target_init);
module_exit(target_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("A module to be patched");
