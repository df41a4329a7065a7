// SPDX-License-Identifier: GPL-2.0-only
/* replace.c - a cumulative patch: takes the place of every other, with a function fewer */
#include <linux/seq_file.h>

#include "kpt.h"

static noipa int cmdline_proc_show(struct seq_file *m, void *v)
{
	seq_puts(m, "this is kpt_replace\n");
	return 0;
}

static const struct kpatch_func funcs[] = {
	{ .name = "cmdline_proc_show", .new_func = cmdline_proc_show },
};

static const struct kpatch_object objects[] = {
	{ .funcs = funcs, .nr_funcs = ARRAY_SIZE(funcs) },
};

static const struct kpatch_patch kpt_patch = {
	.abi = KPATCH_ABI,
	.owner = THIS_MODULE,
	.objects = objects,
	.nr_objects = ARRAY_SIZE(objects),
	.leave = KPATCH_LEAVE_PATCHED_SET,
	.switching = KPATCH_SWITCH_KERNEL,
	.replace = true,
	.checksum = "sha256:0123abcd",
};

MODULE_DESCRIPTION("Takes the place of every other patch");

#include "register.h"
