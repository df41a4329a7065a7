// SPDX-License-Identifier: GPL-2.0-only
/*
 * late.c - patches a module that may load later, and refers to its statics
 *
 * One function of vmlinux is replaced as well: it must stay so whatever
 * happens to the module.
 */
#include <linux/elf.h>
#include <linux/seq_file.h>

#include "kpt.h"
#include "late.h"

/* The relocated places, all of which the module loader made read-only. */
static const int * const kpt_64 __used;

/* Stands for the target until the core has relocated the call. */
noipa int kpt_placeholder(void)
{
	return -1000;
}

/* Stands for the secret. */
int kpt_nothing = -1000;

static __always_inline int call_helper(void)
{
	int value;

	asm volatile("call kpt_placeholder\n\t"
		     KPT_PLACE(kpt_call)
		     : "=a" (value), ASM_CALL_CONSTRAINT
		     : : "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory", "cc");
	return value;
}

static __always_inline const int *secret_pc32(void)
{
	const int *secret;

	asm volatile("leaq kpt_nothing(%%rip), %0\n\t"
		     KPT_PLACE(kpt_pc32) : "=r" (secret));
	return secret;
}

static __always_inline const int *secret_32s(void)
{
	const int *secret;

	asm volatile("movq $kpt_nothing, %0\n\t"
		     KPT_PLACE(kpt_32s) : "=r" (secret));
	return secret;
}

/* 41 + 40 * 3, and 2 if every way to the secret leads to the same place. */
static noipa int target_value(void)
{
	const int *one = secret_pc32(), *two = secret_32s(), *three = READ_ONCE(kpt_64);

	return call_helper() + *one + *two + *three + (one == two) + (two == three);
}

static noipa int version_proc_show(struct seq_file *m, void *v)
{
	seq_puts(m, "this is kpt_late\n");
	return 0;
}

static const struct kpatch_func vmlinux_funcs[] = {
	{ .name = "version_proc_show", .new_func = version_proc_show },
};

static const struct kpatch_func target_funcs[] = {
	{ .name = "target_value", .new_func = target_value },
};

static struct kpatch_reloc target_relocs[] = {
	{ NULL, R_X86_64_PLT32, "target_helper", 0, -4 },
	{ NULL, R_X86_64_PC32, "target_secret", 1, -4 },
	{ NULL, R_X86_64_32S, "target_secret", 0, 0 },
	{ (void *)&kpt_64, R_X86_64_64, "target_secret", 0, 0 },
};

static const struct kpatch_object objects[] = {
	{
		.funcs = vmlinux_funcs,
		.nr_funcs = ARRAY_SIZE(vmlinux_funcs),
	}, {
		.name = "kpt_target",
		.funcs = target_funcs,
		.nr_funcs = ARRAY_SIZE(target_funcs),
		.relocs = target_relocs,
		.nr_relocs = ARRAY_SIZE(target_relocs),
	},
};

KPT_PATCH(objects, KPATCH_LEAVE_PATCHED_SET, KPATCH_SWITCH_KERNEL);

static char *reloc = "";
module_param(reloc, charp, 0444);
MODULE_PARM_DESC(reloc, "spoil the first relocation: symbol, type, reach");

static int __init late_init(void)
{
	target_relocs[0].dest = (char *)target_value + kpt_call;
	target_relocs[1].dest = (char *)target_value + kpt_pc32;
	target_relocs[2].dest = (char *)target_value + kpt_32s;
	if (!strcmp(reloc, "symbol"))
		target_relocs[0].symbol = "kpt_no_such_symbol";
	if (!strcmp(reloc, "type"))
		target_relocs[0].type = R_X86_64_GLOB_DAT;
	/* An address in the upper half never fits an unsigned 32 bits. */
	if (!strcmp(reloc, "reach"))
		target_relocs[0].type = R_X86_64_32;
	return kpatch_register(&kpt_patch);
}

static void __exit late_exit(void)
{
	kpatch_unregister(&kpt_patch);
}

module_init(late_init);
module_exit(late_exit);
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
MODULE_DESCRIPTION("Patches a module that may load later");
