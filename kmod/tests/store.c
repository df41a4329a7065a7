// SPDX-License-Identifier: GPL-2.0-only
/*
 * store.c - replaces a function that whoever writes to a patch's enabled is in,
 * and the one that a reader of /proc/kpt_sleep sleeps in
 */
#include <linux/compiler.h>
#include <linux/kernfs.h>
#include <linux/kobject.h>

#include "compat.h"
#include "kpt.h"

static noipa ssize_t sysfs_kf_write(struct kernfs_open_file *of, char *buf, size_t count,
				    loff_t pos)
{
	struct kobject *kobj = kpatch_kernfs_parent(of->kn)->priv;
	ssize_t ret = 0;

	if (count)
		ret = kobj->ktype->sysfs_ops->store(kobj, of->kn->priv, buf, count);
	/* No tail call: it stays on the stack. */
	barrier();
	return ret;
}

static noipa int target_sleep(bool deep)
{
	return 0;
}

static const struct kpatch_func vmlinux_funcs[] = {
	{ .name = "sysfs_kf_write", .new_func = sysfs_kf_write },
};

static const struct kpatch_func target_funcs[] = {
	{ .name = "target_sleep", .new_func = target_sleep },
};

static const struct kpatch_object objects[] = {
	{
		.funcs = vmlinux_funcs,
		.nr_funcs = ARRAY_SIZE(vmlinux_funcs),
	}, {
		.name = "kpt_target",
		.funcs = target_funcs,
		.nr_funcs = ARRAY_SIZE(target_funcs),
	},
};

KPT_PATCH(objects, KPATCH_LEAVE_PATCHED_SET, KPATCH_SWITCH_KERNEL);
MODULE_DESCRIPTION("Replaces what its own switch goes through");

#include "model.h"
