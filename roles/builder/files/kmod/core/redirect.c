// SPDX-License-Identifier: GPL-2.0-only
/*
 * redirect.c - sends callers of a function to its replacement, through ftrace
 *
 * A site is the ftrace location of one function and the stack of replacements
 * that enabled patches have for it, the newest first. Of a module's exit
 * function it is the pointer to it (exit.c).
 *
 * Locking: kpatch_mutex guards the sites. A site's stack changes under that
 * mutex, and is read by handler() with preemption off; a replacement that has
 * left it may still be on its way to being called until
 * kpatch_synchronize_tasks() has returned.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/rculist.h>
#include <linux/slab.h>

#include "core.h"
#include "universe.h"

struct kpatch_site {
	struct ftrace_ops ops;
	unsigned long ip;
	/* Whose exit function it is, at @ip; NULL if it is no such. */
	struct module *leaving;
	unsigned int users;
	struct list_head stack;
	struct list_head list;
};

static LIST_HEAD(sites);

/* The newest replacement in force, in the universe that this call is in. */
static noinline notrace struct live_func *choose(struct kpatch_site *site)
{
	enum kpatch_universe universe = KPATCH_OLD;
	struct live_func *func;
	struct list_head *node;
	enum live_role role;
	bool known = false;

	for (node = READ_ONCE(site->stack.next); node != &site->stack;
	     node = READ_ONCE(node->next)) {
		func = list_entry(node, struct live_func, on_site);
		role = READ_ONCE(func->lpatch->role);
		if (role == LIVE_STAYS)
			return func;
		/* Once for the call: counting it has consequences. */
		if (!known)
			universe = kpatch_universe_of_call(func);
		known = true;
		if (universe == (role == LIVE_COMES ? KPATCH_NEW : KPATCH_OLD))
			return func;
	}
	return NULL;
}

static void notrace handler(unsigned long ip, unsigned long parent_ip,
			    struct ftrace_ops *ops, KPATCH_REGS *regs)
{
	struct kpatch_site *site = container_of(ops, struct kpatch_site, ops);
	struct live_func *func;

	/* Calls nothing that could be traced, so it can't recurse. */
	preempt_disable_notrace();
	/* Pairs with list_add_rcu() in kpatch_redirect(). */
	func = list_first_or_null_rcu(&site->stack, struct live_func, on_site);
	if (func && unlikely(READ_ONCE(func->lpatch->role) != LIVE_STAYS))
		func = choose(site);
	if (func)
		kpatch_continue_at(regs, (unsigned long)func->func->new_func);
	preempt_enable_notrace();
}

static struct kpatch_site *find_site(unsigned long ip)
{
	struct kpatch_site *site;

	list_for_each_entry(site, &sites, list)
		if (site->ip == ip)
			return site;
	return NULL;
}

static int trace(struct kpatch_site *site, const char *name)
{
	int err;

	site->ops.func = handler;
	site->ops.flags = KPATCH_FTRACE_FLAGS;
	err = kpatch_fault() ?: ftrace_set_filter_ip(&site->ops, site->ip, 0, 0);
	if (err)
		goto refuse;
	err = kpatch_fault() ?: register_ftrace_function(&site->ops);
	if (!err)
		return 0;
	ftrace_set_filter_ip(&site->ops, site->ip, 1, 0);
refuse:
	if (err == -EBUSY)
		kpatch_refuse("function %s is redirected by someone else, maybe a livepatch",
			      name);
	else
		kpatch_refuse("function %s can't be redirected: ftrace says %d", name, err);
	return err;
}

static int untrace(struct kpatch_site *site)
{
	/* An empty filter would mean every function: unregister first. */
	if (WARN_ON(unregister_ftrace_function(&site->ops)))
		return -EBUSY;
	ftrace_set_filter_ip(&site->ops, site->ip, 1, 0);
	return 0;
}

static struct kpatch_site *create_site(unsigned long ip, const char *name,
				       struct module *leaving)
{
	struct kpatch_site *site;
	int err;

	site = kpatch_fault() ? NULL : kzalloc(sizeof(*site), GFP_KERNEL);
	if (!site)
		return ERR_PTR(-ENOMEM);
	site->ip = ip;
	site->leaving = leaving;
	INIT_LIST_HEAD(&site->stack);
	err = leaving ? 0 : trace(site, name);
	if (err) {
		kfree(site);
		return ERR_PTR(err);
	}
	list_add(&site->list, &sites);
	return site;
}

static void destroy_site(struct kpatch_site *site)
{
	if (!site->leaving && untrace(site))
		return;
	list_del(&site->list);
	kfree(site);
}

/* Where calls of a function are redirected; 0 after a refusal. */
static unsigned long site_of(const struct live_func *func, struct module *mod)
{
	unsigned long entry = kpatch_entry(&func->old_code), ip;
	const char *name = func->func->name;

	if (func->func->exit)
		return kpatch_check_exit(mod, name, entry) ? 0 : entry;
	ip = kpatch_ftrace_location(entry);
	if (!ip)
		kpatch_refuse("function %s can't be redirected: its entry has no call to ftrace",
			      name);
	return ip;
}

/**
 * kpatch_attach_func() - get everything ready, so that only the flip is left
 * @func:	with old_code known
 * @mod:	the module that it is in; NULL for vmlinux
 *
 * Calls go through handler() from now on, which sends none of them elsewhere.
 *
 * Return: 0 or a negative error code; a refusal has been recorded then.
 */
int kpatch_attach_func(struct live_func *func, struct module *mod)
{
	struct kpatch_site *site;
	unsigned long ip;

	ip = site_of(func, mod);
	if (!ip)
		return -EOPNOTSUPP;
	site = find_site(ip);
	if (!site)
		site = create_site(ip, func->func->name, func->func->exit ? mod : NULL);
	if (IS_ERR(site))
		return PTR_ERR(site);
	site->users++;
	func->site = site;
	return 0;
}

/* May sleep until the last caller has left ftrace's trampoline. */
void kpatch_detach_func(struct live_func *func)
{
	struct kpatch_site *site = func->site;

	if (!site)
		return;
	func->site = NULL;
	if (!--site->users)
		destroy_site(site);
}

/* It is held, or on its way, so that nobody needs to be told of universes. */
static void point_exit(struct kpatch_site *site)
{
	const struct live_func *top;

	if (!site->leaving)
		return;
	top = list_first_entry_or_null(&site->stack, struct live_func, on_site);
	kpatch_point_exit(site->leaving, top ? (unsigned long)top->func->new_func : site->ip);
}

/* Both may be called again without effect. */
void kpatch_redirect(struct live_func *func)
{
	if (func->redirected)
		return;
	list_add_rcu(&func->on_site, &func->site->stack);
	func->redirected = true;
	point_exit(func->site);
}

void kpatch_restore(struct live_func *func)
{
	if (!func->redirected)
		return;
	list_del_rcu(&func->on_site);
	func->redirected = false;
	point_exit(func->site);
}

/* What would be reached if @func were not there; NULL if that is the original. */
struct live_func *kpatch_redirected_below(const struct live_func *func)
{
	const struct list_head *node;

	for (node = func->on_site.next; node != &func->site->stack; node = node->next) {
		struct live_func *below = list_entry(node, struct live_func, on_site);

		if (below->lpatch->role == LIVE_STAYS)
			return below;
	}
	return NULL;
}

/* Nobody on a processor is in handler() and still sees what was there before. */
void kpatch_synchronize_handlers(void)
{
	/* Where RCU doesn't watch, functions are traced as well. */
	synchronize_rcu_tasks_rude();
	synchronize_rcu();
}

/*
 * A task that was preempted in the trampoline may have been told already where
 * to go, without being there.
 */
bool kpatch_on_its_way(const struct live_func *func, unsigned long address)
{
	const struct ftrace_ops *ops = &func->site->ops;

	return address >= ops->trampoline &&
	       address < ops->trampoline + ops->trampoline_size;
}
