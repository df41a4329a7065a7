// SPDX-License-Identifier: GPL-2.0-only
/* first.c - replaces a static function of vmlinux: what /proc/cmdline reads */
#include <linux/seq_file.h>

#include "kpt.h"

static noipa int cmdline_proc_show(struct seq_file *m, void *v)
{
	seq_puts(m, "this is kpt_first\n");
	return 0;
}

static const struct kpatch_func funcs[] = {
	{ .name = "cmdline_proc_show", .new_func = cmdline_proc_show },
};

static const struct kpatch_object objects[] = {
	{ .funcs = funcs, .nr_funcs = ARRAY_SIZE(funcs) },
};

KPT_PATCH(objects, KPATCH_LEAVE_PATCHED_SET, KPATCH_SWITCH_KERNEL);
MODULE_DESCRIPTION("Replaces cmdline_proc_show() of vmlinux");

#include "register.h"
