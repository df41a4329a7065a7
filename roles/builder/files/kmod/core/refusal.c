// SPDX-License-Identifier: GPL-2.0-only
/*
 * refusal.c - remembers in one line why the last request was refused
 *
 * Locking: refusal_mutex guards the line, so that it can be read while
 * kpatch_mutex is held for a long switch.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include <linux/sysfs.h>

#include "core.h"

static DEFINE_MUTEX(refusal_mutex);
static char refusal[256];

/* The first reason stands: what follows in unwinding is its consequence. */
void kpatch_refuse(const char *format, ...)
{
	va_list args;

	mutex_lock(&refusal_mutex);
	if (!refusal[0]) {
		va_start(args, format);
		vscnprintf(refusal, sizeof(refusal), format, args);
		va_end(args);
		pr_warn("refused: %s\n", refusal);
	}
	mutex_unlock(&refusal_mutex);
}

void kpatch_forget_refusal(void)
{
	mutex_lock(&refusal_mutex);
	refusal[0] = '\0';
	mutex_unlock(&refusal_mutex);
}

int kpatch_show_refusal(char *page)
{
	int len;

	mutex_lock(&refusal_mutex);
	len = refusal[0] ? sysfs_emit(page, "%s\n", refusal) : 0;
	mutex_unlock(&refusal_mutex);
	return len;
}
