// SPDX-License-Identifier: GPL-2.0-only
/* second.c - replaces a static function of vmlinux: what /proc/cmdline reads */
#include <linux/seq_file.h>

#include "kpt.h"

static noipa int cmdline_proc_show(struct seq_file *m, void *v)
{
	seq_puts(m, "this is kpt_second\n");
	return 0;
}

static const struct kpatch_func funcs[] = {
	{ .name = "cmdline_proc_show", .new_func = cmdline_proc_show },
};

static const struct kpatch_object objects[] = {
	{ .funcs = funcs, .nr_funcs = ARRAY_SIZE(funcs) },
};

static char replaces[MODULE_NAME_LEN];
module_param_string(replaces, replaces, sizeof(replaces), 0444);
MODULE_PARM_DESC(replaces, "which patch module takes its leave in the same switch");

KPT_PATCH(objects, KPATCH_LEAVE_PATCHED_SET, KPATCH_SWITCH_KERNEL);
MODULE_DESCRIPTION("Replaces cmdline_proc_show() of vmlinux");

static int __init kpt_init(void)
{
	kpt_patch.replaces = replaces;
	return kpatch_register(&kpt_patch);
}

#define KPT_INIT
#include "register.h"
