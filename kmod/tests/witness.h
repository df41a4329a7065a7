/* SPDX-License-Identifier: GPL-2.0-only */
/* witness.h - what the witness and the patch that it judges share */
#ifndef _WITNESS_H
#define _WITNESS_H

#include <linux/types.h>

/* The two calling conventions of witness_difference(); a visit has to see one of them. */
enum witness_version {
	WITNESS_OLD,
	WITNESS_NEW,
};

/* Who can be deceived; each promise includes no other. */
enum witness_level {
	WITNESS_CALL,		/* one call of witness_caller() mixed the conventions */
	WITNESS_SYSCALL,	/* one system call saw both, one after the other */
	WITNESS_THREAD,		/* a thread that had run the switch's target ran the other again */
	WITNESS_KERNEL,		/* somebody was in the other while somebody ran the target */
	WITNESS_LEVELS,
};

/* What a visitor does inside and between its calls, in any combination. */
#define WITNESS_SPIN	1
#define WITNESS_SLEEP	2
#define WITNESS_LINGER	4

/* One context of execution, and what it has seen. */
struct witness_visitor {
	unsigned int pauses;
	bool thread;
	unsigned int versions;
	unsigned int before;
	unsigned int turned;
};

/* Any two numbers that differ. */
#define WITNESS_LARGER	7L
#define WITNESS_SMALLER	4L

void witness_step(struct witness_visitor *visitor);
void witness_enter(struct witness_visitor *visitor, enum witness_version version);
void witness_leave(enum witness_version version);
void witness_count(enum witness_level level);
void witness_pause(const struct witness_visitor *visitor);
long witness_difference(struct witness_visitor *visitor, long larger, long smaller);

#endif /* _WITNESS_H */
