// SPDX-License-Identifier: GPL-2.0-only
/*
 * shadow.c - shadow variables, for kernels without livepatch's own
 *
 * Locking: shadow_lock guards changes of the table, with interrupts off since
 * patched functions may run there. Readers are under RCU: an entry is freed
 * after a grace period. A constructor runs under the lock, so that nobody sees
 * what it has not finished; a destructor runs once nobody can find the entry.
 */
#include <linux/hashtable.h>
#include <linux/module.h>
#include <linux/slab.h>

#include "kpatch_author.h"

struct shadow {
	struct hlist_node node;
	struct rcu_head rcu;
	void *obj;
	unsigned long id;
	u8 data[] __aligned(8);
};

static DEFINE_HASHTABLE(shadows, 10);
static DEFINE_SPINLOCK(shadow_lock);

static struct shadow *find(void *obj, unsigned long id)
{
	struct shadow *shadow;

	hash_for_each_possible_rcu(shadows, shadow, node, (unsigned long)obj,
				   lockdep_is_held(&shadow_lock))
		if (shadow->obj == obj && shadow->id == id)
			return shadow;
	return NULL;
}

void *kpatch_shadow_get(void *obj, unsigned long id)
{
	struct shadow *shadow;

	rcu_read_lock();
	shadow = find(obj, id);
	rcu_read_unlock();
	return shadow ? shadow->data : NULL;
}
EXPORT_SYMBOL_GPL(kpatch_shadow_get);

/* Returns what is in the table then; NULL if the constructor refuses @new. */
static struct shadow *insert(struct shadow *new, kpatch_shadow_ctor_t ctor, void *data)
{
	struct shadow *there;
	unsigned long flags;

	spin_lock_irqsave(&shadow_lock, flags);
	there = find(new->obj, new->id);
	if (!there && !(ctor && ctor(new->obj, new->data, data))) {
		/* Pairs with the readers' rcu_read_lock(). */
		hash_add_rcu(shadows, &new->node, (unsigned long)new->obj);
		there = new;
	}
	spin_unlock_irqrestore(&shadow_lock, flags);
	return there;
}

static void *attach(void *obj, unsigned long id, size_t size, gfp_t flags,
		    kpatch_shadow_ctor_t ctor, void *data, bool may_be_there)
{
	struct shadow *new, *there;
	void *found;

	found = may_be_there ? kpatch_shadow_get(obj, id) : NULL;
	if (found)
		return found;
	new = kzalloc(struct_size(new, data, size), flags);
	if (!new)
		return NULL;
	new->obj = obj;
	new->id = id;
	there = insert(new, ctor, data);
	if (there == new)
		return new->data;
	kfree(new);
	WARN(there && !may_be_there, "a shadow variable <%p, %lx> is there already\n", obj, id);
	return there && may_be_there ? there->data : NULL;
}

void *kpatch_shadow_alloc(void *obj, unsigned long id, size_t size, gfp_t flags,
			  kpatch_shadow_ctor_t ctor, void *data)
{
	return attach(obj, id, size, flags, ctor, data, false);
}
EXPORT_SYMBOL_GPL(kpatch_shadow_alloc);

void *kpatch_shadow_get_or_alloc(void *obj, unsigned long id, size_t size, gfp_t flags,
				 kpatch_shadow_ctor_t ctor, void *data)
{
	return attach(obj, id, size, flags, ctor, data, true);
}
EXPORT_SYMBOL_GPL(kpatch_shadow_get_or_alloc);

static void detach(struct shadow *shadow, kpatch_shadow_dtor_t dtor)
{
	hash_del_rcu(&shadow->node);
	if (dtor)
		dtor(shadow->obj, shadow->data);
	kfree_rcu(shadow, rcu);
}

void kpatch_shadow_free(void *obj, unsigned long id, kpatch_shadow_dtor_t dtor)
{
	struct shadow *shadow;
	unsigned long flags;

	spin_lock_irqsave(&shadow_lock, flags);
	shadow = find(obj, id);
	if (shadow)
		detach(shadow, dtor);
	spin_unlock_irqrestore(&shadow_lock, flags);
}
EXPORT_SYMBOL_GPL(kpatch_shadow_free);

void kpatch_shadow_free_all(unsigned long id, kpatch_shadow_dtor_t dtor)
{
	struct hlist_node *next;
	struct shadow *shadow;
	unsigned long flags;
	int bucket;

	spin_lock_irqsave(&shadow_lock, flags);
	hash_for_each_safe(shadows, bucket, next, shadow, node)
		if (shadow->id == id)
			detach(shadow, dtor);
	spin_unlock_irqrestore(&shadow_lock, flags);
}
EXPORT_SYMBOL_GPL(kpatch_shadow_free_all);
