/* SPDX-License-Identifier: GPL-2.0-only */
/* late.h - what late.c's assembly statements and its C know of each other */
#ifndef _KPT_LATE_H
#define _KPT_LATE_H

/* What stands in the relocated places until they are relocated. */
int kpt_placeholder(void);
extern int kpt_nothing;

/* Where the relocated places are in target_value(). */
extern const long kpt_call, kpt_pc32, kpt_32s;

/* The tools that check the object code want no symbol inside an instruction. */
#define KPT_PLACE(name)							\
	"1:\n\t"							\
	".pushsection .rodata\n\t"					\
	".globl " #name "\n"						\
	#name ":\t.quad 1b - 4 - target_value\n\t"			\
	".popsection"

#endif /* _KPT_LATE_H */
