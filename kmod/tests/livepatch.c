// SPDX-License-Identifier: GPL-2.0-only
/* livepatch.c - a live patch of the kernel's own, on the function of first.c */
#include <linux/livepatch.h>
#include <linux/seq_file.h>

#include "kpt.h"

static noipa int cmdline_proc_show(struct seq_file *m, void *v)
{
	seq_puts(m, "this is kpt_livepatch\n");
	return 0;
}

static struct klp_func funcs[] = {
	{ .old_name = "cmdline_proc_show", .new_func = cmdline_proc_show },
	{ }
};

static struct klp_object objects[] = {
	{ .funcs = funcs },
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objects,
};

static int __init kpt_init(void)
{
	return klp_enable_patch(&patch);
}

static void __exit kpt_exit(void)
{
}

module_init(kpt_init);
module_exit(kpt_exit);
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
MODULE_DESCRIPTION("A live patch of the kernel's own");
