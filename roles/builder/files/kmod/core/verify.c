// SPDX-License-Identifier: GPL-2.0-only
/*
 * verify.c - is the function that is to be replaced the one that was meant?
 *
 * Locking: the caller keeps the object there (objects.c says how). What other
 * processors change in a function's text at any time is masked.
 */
#include <linux/kernel.h>

#include "core.h"

/* FNV-1a, 64 bits (draft-eastlake-fnv, section 2). */
#define FNV_OFFSET	0xcbf29ce484222325ULL
#define FNV_PRIME	0x100000001b3ULL

static u64 checksum(const u8 *text, const struct kpatch_original *original)
{
	const struct kpatch_range *masked = original->masked;
	const struct kpatch_range *end = masked + original->nr_masked;
	u64 sum = FNV_OFFSET;
	u32 at = 0;

	while (at < original->size) {
		if (masked < end && at == masked->offset) {
			at += masked->length;
			masked++;
			continue;
		}
		sum = (sum ^ READ_ONCE(text[at])) * FNV_PRIME;
		at++;
	}
	return sum;
}

/**
 * kpatch_verify() - compare a function with what its patch says of it
 * @func:	the function to replace
 * @code:	where it is
 * @object:	the name of its object
 *
 * Return: 0 or -ENOEXEC; a refusal has been recorded then.
 */
int kpatch_verify(const struct kpatch_func *func, const struct kpatch_code *code,
		  const char *object)
{
	const struct kpatch_original *original = func->original;
	unsigned long extent = code->range[0].end - code->range[0].start;
	u64 sum;

	if (!original)
		return 0;
	/* The kernel knows where the next symbol begins, padding included. */
	if (original->size > extent) {
		kpatch_refuse("%s of %s is not what the patch is for: %lu bytes at most, not %u",
			      func->name, object, extent, original->size);
		return -ENOEXEC;
	}
	sum = checksum((const u8 *)kpatch_entry(code), original);
	if (sum != original->checksum) {
		kpatch_refuse("%s of %s is not what the patch is for: its sum is %llx, not %llx",
			      func->name, object, sum, original->checksum);
		return -ENOEXEC;
	}
	return 0;
}
