// SPDX-License-Identifier: GPL-2.0-only
/*
 * hooks.c - writes down which hooks are called, and refuses when it is told to
 *
 * Each hook adds its sign and the first letter of its object to the parameter
 * events: + pre_patch, p post_patch, - pre_unpatch, u post_unpatch; ! is a
 * pre_patch that refused.
 */
#include <linux/seq_file.h>

#include "kpt.h"

static char events[256];
module_param_string(events, events, sizeof(events), 0644);
MODULE_PARM_DESC(events, "the hooks that were called");

static char *refuse = "";
module_param(refuse, charp, 0644);
MODULE_PARM_DESC(refuse, "the object whose pre_patch hook refuses");

static int refuse_with = -EPERM;
module_param(refuse_with, int, 0644);
MODULE_PARM_DESC(refuse_with, "what it returns then");

static const char *name_of(const struct kpatch_object *object)
{
	return object->name ?: "vmlinux";
}

static void note(char sign, const struct kpatch_object *object)
{
	size_t length = strlen(events);

	scnprintf(events + length, sizeof(events) - length, "%c%c", sign, name_of(object)[0]);
}

static int pre_patch(const struct kpatch_object *object)
{
	bool refused = sysfs_streq(refuse, name_of(object));

	note(refused ? '!' : '+', object);
	return refused ? refuse_with : 0;
}

static void post_patch(const struct kpatch_object *object)
{
	note('p', object);
}

static void pre_unpatch(const struct kpatch_object *object)
{
	note('-', object);
}

static void post_unpatch(const struct kpatch_object *object)
{
	note('u', object);
}

static const struct kpatch_hooks hooks = {
	.pre_patch = pre_patch,
	.post_patch = post_patch,
	.pre_unpatch = pre_unpatch,
	.post_unpatch = post_unpatch,
};

static noipa int cmdline_proc_show(struct seq_file *m, void *v)
{
	seq_puts(m, "this is kpt_hooks\n");
	return 0;
}

static noipa int target_sleep(void)
{
	return 0;
}

static const struct kpatch_func vmlinux_funcs[] = {
	{ .name = "cmdline_proc_show", .new_func = cmdline_proc_show },
};

static const struct kpatch_func target_funcs[] = {
	{ .name = "target_sleep", .new_func = target_sleep },
};

static const struct kpatch_object objects[] = {
	{
		.funcs = vmlinux_funcs,
		.nr_funcs = ARRAY_SIZE(vmlinux_funcs),
		.hooks = &hooks,
	}, {
		.name = "kpt_target",
		.funcs = target_funcs,
		.nr_funcs = ARRAY_SIZE(target_funcs),
		.hooks = &hooks,
	},
};

KPT_PATCH(objects, KPATCH_LEAVE_PATCHED_SET, KPATCH_SWITCH_KERNEL);
MODULE_DESCRIPTION("Writes down which hooks are called");

#include "model.h"
