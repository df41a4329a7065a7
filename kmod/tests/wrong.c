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

KPT_PATCH(objects, KPATCH_LEAVE_PATCHED_SET, KPATCH_SWITCH_KERNEL);

static void spoil(void)
{
	if (!strcmp(what, "abi"))
		kpt_patch.abi = KPATCH_ABI + 1;
	else if (!strcmp(what, "thread"))
		kpt_patch.switching = KPATCH_SWITCH_THREAD;
	else if (!strcmp(what, "leave"))
		kpt_patch.leave = KPATCH_LEAVE_KERNEL;
	else if (!strcmp(what, "missing"))
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
	else if (!strcmp(what, "object"))
		objects[1].name = "kpt_target";
	else if (!strcmp(what, "nothing"))
		kpt_patch.nr_objects = 0;
}

static int __init wrong_init(void)
{
	spoil();
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
