// SPDX-License-Identifier: GPL-2.0-only
/* wrong.c - everything that the core has to refuse at registration */
#include "kpt.h"

static char *what = "";
module_param(what, charp, 0444);
MODULE_PARM_DESC(what, "what is wrong");

static noipa int replacement(void)
{
	return 3;
}

/* The first function is all right: it must not stay redirected. */
static struct kpatch_func funcs[] = {
	{ .name = "target_value", .new_func = replacement },
	{ .name = "target_helper", .new_func = replacement },
};

static struct kpatch_object objects[] = {
	{ .name = "kpt_target", .funcs = funcs, .nr_funcs = ARRAY_SIZE(funcs) },
	{ .name = "kpt_not_loaded", .funcs = funcs, .nr_funcs = ARRAY_SIZE(funcs) },
};

static struct kpatch_range masked[] = {
	{ .offset = 0, .length = 5 },
	{ .offset = 5, .length = 5 },
};

static struct kpatch_original original = {
	.size = 10,
	.masked = masked,
	.nr_masked = ARRAY_SIZE(masked),
};

static struct kpatch_hooks hooks;

KPT_PATCH(objects, KPATCH_LEAVE_PATCHED_SET, KPATCH_SWITCH_KERNEL);

static void spoil_patch(void)
{
	if (!strcmp(what, "abi"))
		kpt_patch.abi = KPATCH_ABI + 1;
	else if (!strcmp(what, "leave"))
		kpt_patch.leave = KPATCH_LEAVE_KERNEL + 1;
	else if (!strcmp(what, "switch"))
		kpt_patch.switching = KPATCH_SWITCH_KERNEL + 1;
	else if (!strcmp(what, "means"))
		kpt_patch.means = KPATCH_BY_COUNTING + 1;
	else if (!strcmp(what, "nothing"))
		kpt_patch.nr_objects = 0;
	else if (!strcmp(what, "owner"))
		kpt_patch.owner = (void *)kpatch_register;
	else if (!strcmp(what, "objects"))
		kpt_patch.nr_objects = 1 << 20;
	else if (!strcmp(what, "replace"))
		*(u8 *)&kpt_patch.replace = 2;
	else if (!strcmp(what, "checksum"))
		kpt_patch.checksum = "two words";
	else if (!strcmp(what, "replaces"))
		kpt_patch.replaces = "two words";
	else if (!strcmp(what, "replaced"))
		kpt_patch.replaces = (void *)kpatch_register;
}

static void spoil_objects(void)
{
	if (!strcmp(what, "object"))
		objects[1].name = "kpt_target";
	else if (!strcmp(what, "unnamed"))
		objects[1].name = "";
	else if (!strcmp(what, "functions"))
		objects[1].nr_funcs = 1 << 20;
	else if (!strcmp(what, "relocs"))
		objects[1].nr_relocs = 1;
	else if (!strcmp(what, "hook"))
		hooks.pre_patch = (void *)kpatch_register;
	else if (!strcmp(what, "hooks"))
		objects[1].hooks = (void *)kpatch_register;
	if (hooks.pre_patch)
		objects[1].hooks = &hooks;
}

static void spoil_originals(void)
{
	if (!strcmp(what, "sum"))
		funcs[1].original = &original;
	else if (!strcmp(what, "overlap"))
		masked[1].offset = 4;
	else if (!strcmp(what, "beyond"))
		masked[1].length = 6;
	else if (!strcmp(what, "masks"))
		original.nr_masked = 1 << 30;
	if (masked[1].offset + masked[1].length != 10 || original.nr_masked != 2)
		funcs[1].original = &original;
}

/* Dozens of files of vmlinux have a static function of this name. */
static struct kpatch_func common[] = {
	{ .name = "name_show", .new_func = replacement },
};

static void spoil_vmlinux(void)
{
	bool ambiguous = !strcmp(what, "common"), exit = !strcmp(what, "vmlinux");

	if (!ambiguous && !exit && strcmp(what, "ninehundredth"))
		return;
	common[0].sympos = ambiguous ? 0 : 900;
	common[0].exit = exit;
	objects[1] = (struct kpatch_object){ .funcs = common, .nr_funcs = ARRAY_SIZE(common) };
}

static void spoil_functions(void)
{
	if (!strcmp(what, "missing"))
		funcs[1].name = "kpt_no_such_function";
	else if (!strcmp(what, "position"))
		funcs[1].sympos = 2;
	else if (!strcmp(what, "ambiguous"))
		funcs[1].name = "target_twin";
	else if (!strcmp(what, "notrace"))
		funcs[1].name = "target_notrace";
	else if (!strcmp(what, "twice"))
		funcs[1] = (struct kpatch_func){ "target_value", 1, replacement };
	else if (!strcmp(what, "outside"))
		funcs[1].new_func = kpatch_register;
	else if (!strcmp(what, "middle"))
		funcs[1].new_func = (char *)replacement + 1;
	else if (!strcmp(what, "data"))
		funcs[1].new_func = funcs;
	else if (!strcmp(what, "name"))
		funcs[1].name = (void *)8;
	else if (!strcmp(what, "force"))
		*(u8 *)&funcs[1].force = 2;
	else if (!strcmp(what, "exit"))
		*(u8 *)&funcs[1].exit = 2;
	else if (!strcmp(what, "other"))
		funcs[1].exit = true;
}

static int __init wrong_init(void)
{
	spoil_patch();
	spoil_objects();
	spoil_functions();
	spoil_vmlinux();
	spoil_originals();
	return kpatch_register(&kpt_patch);
}

static void __exit wrong_exit(void)
{
	kpatch_unregister(&kpt_patch);
}

module_init(wrong_init);
module_exit(wrong_exit);
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
MODULE_DESCRIPTION("A patch that must be refused");
