// SPDX-License-Identifier: GPL-2.0-only
/*
 * request.c - has a patch enabled or disabled while whoever asked for it waits
 *
 * A worker does it, so that the writer can be let go when it is killed: the
 * transition is turned back then, and if that does not end soon it goes on by
 * itself. The same if the writer's own stack keeps it from ending.
 *
 * Locking: waiting_lock guards the list of those who wait. Writer and worker
 * share a request, and the last one frees it.
 */
#include <linux/completion.h>
#include <linux/refcount.h>
#include <linux/sched.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/workqueue.h>

#include "core.h"

/* How long who was killed waits for the way back. */
#define GRACE_MS 10000

struct request {
	struct work_struct work;
	struct list_head list;
	struct live_patch *lpatch;
	bool enable;
	struct task_struct *writer;
	struct completion done;
	refcount_t users;
	int err;
};

static struct workqueue_struct *workers;
static DEFINE_RAW_SPINLOCK(waiting_lock);
static LIST_HEAD(waiting);

static void put_request(struct request *request)
{
	if (!refcount_dec_and_test(&request->users))
		return;
	put_task_struct(request->writer);
	kfree(request);
}

static void work_on_request(struct work_struct *work)
{
	struct request *request = container_of(work, struct request, work);

	struct live_patch *lpatch = request->lpatch;

	WRITE_ONCE(request->err,
		   kpatch_try_set_enabled(lpatch, request->enable, request->writer));
	complete(&request->done);
	put_request(request);
	/* The patch may be freed from here on. */
	kobject_put(&lpatch->kobj);
}

static struct request *create_request(struct live_patch *lpatch, bool enable)
{
	struct request *request;

	request = kpatch_fault() ? NULL : kzalloc(sizeof(*request), GFP_KERNEL);
	if (!request)
		return NULL;
	INIT_WORK(&request->work, work_on_request);
	request->lpatch = lpatch;
	kobject_get(&lpatch->kobj);
	request->enable = enable;
	request->err = -EINPROGRESS;
	request->writer = get_task_struct(current);
	init_completion(&request->done);
	refcount_set(&request->users, 2);
	return request;
}

static void begin_waiting(struct request *request)
{
	raw_spin_lock_irq(&waiting_lock);
	list_add(&request->list, &waiting);
	raw_spin_unlock_irq(&waiting_lock);
}

static void end_waiting(struct request *request)
{
	raw_spin_lock_irq(&waiting_lock);
	list_del(&request->list);
	raw_spin_unlock_irq(&waiting_lock);
}

/* Whether a task waits here, and can't leave the kernel before a transition ends. */
bool kpatch_waits(const struct task_struct *task)
{
	struct request *request;
	unsigned long flags;
	bool found = false;

	raw_spin_lock_irqsave(&waiting_lock, flags);
	list_for_each_entry(request, &waiting, list)
		found = found || request->writer == task;
	raw_spin_unlock_irqrestore(&waiting_lock, flags);
	return found;
}

/* Who waits here for a task to leave a function must not wait for itself. */
void kpatch_let_go(const struct task_struct *task)
{
	struct request *request;
	unsigned long flags;

	raw_spin_lock_irqsave(&waiting_lock, flags);
	list_for_each_entry(request, &waiting, list)
		if (request->writer == task)
			complete(&request->done);
	raw_spin_unlock_irqrestore(&waiting_lock, flags);
}

/**
 * kpatch_request() - have a registered patch enabled or disabled
 * @lpatch:	the patch
 * @enable:	which
 *
 * Return: as kpatch_try_set_enabled(), or -EINPROGRESS if the patch is still on
 * its way back, and the caller was killed or is in that way.
 */
int kpatch_request(struct live_patch *lpatch, bool enable)
{
	struct request *request = create_request(lpatch, enable);
	int err;

	if (!request)
		return -ENOMEM;
	begin_waiting(request);
	queue_work(workers, &request->work);
	if (wait_for_completion_killable(&request->done))
		wait_for_completion_timeout(&request->done, msecs_to_jiffies(GRACE_MS));
	end_waiting(request);
	err = READ_ONCE(request->err);
	put_request(request);
	return err;
}

int kpatch_requests_init(void)
{
	workers = alloc_workqueue("kpatch", WQ_UNBOUND, 0);
	return workers ? 0 : -ENOMEM;
}

/* No request comes any more; the last one's worker may not have returned yet. */
void kpatch_requests_exit(void)
{
	destroy_workqueue(workers);
}
