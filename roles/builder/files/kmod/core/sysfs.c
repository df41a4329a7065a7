// SPDX-License-Identifier: GPL-2.0-only
/*
 * sysfs.c - /sys/kernel/kpatch, as docs/architecture.md gives it
 *
 * Locking: the files take kpatch_mutex, except those that have to answer
 * during a switch. Directories are therefore added and removed without it:
 * removing waits for readers and writers.
 */
#include <linux/kobject.h>
#include <linux/sysfs.h>

#include "core.h"

static struct kobject *root_dir;
static struct kobject *patches_dir;

static ssize_t abi_show(struct kobject *kobj, struct kobj_attribute *attr, char *page)
{
	return sysfs_emit(page, "%d\n", KPATCH_ABI);
}

static ssize_t refusal_show(struct kobject *kobj, struct kobj_attribute *attr, char *page)
{
	return kpatch_show_refusal(page);
}

static ssize_t deadline_ms_show(struct kobject *kobj, struct kobj_attribute *attr, char *page)
{
	return sysfs_emit(page, "%u\n", READ_ONCE(kpatch_deadline_ms));
}

static ssize_t deadline_ms_store(struct kobject *kobj, struct kobj_attribute *attr,
				 const char *page, size_t count)
{
	unsigned int value;

	/* A day is more than anybody waits, and fits a signed number of jiffies. */
	if (kstrtouint(page, 10, &value) || !value || value > 86400000)
		return -EINVAL;
	WRITE_ONCE(kpatch_deadline_ms, value);
	return count;
}

static struct kobj_attribute abi_attr = __ATTR_RO(abi);
static struct kobj_attribute refusal_attr = __ATTR_RO(refusal);
static struct kobj_attribute deadline_ms_attr = __ATTR_RW(deadline_ms);

static const struct attribute *root_attrs[] = {
	&abi_attr.attr,
	&refusal_attr.attr,
	&deadline_ms_attr.attr,
	NULL,
};

/* patches/<module>/ */

static struct live_patch *to_patch(struct kobject *kobj)
{
	return container_of(kobj, struct live_patch, kobj);
}

static ssize_t enabled_show(struct kobject *kobj, struct kobj_attribute *attr, char *page)
{
	return sysfs_emit(page, "%d\n", READ_ONCE(to_patch(kobj)->enabled));
}

static ssize_t enabled_store(struct kobject *kobj, struct kobj_attribute *attr,
			     const char *page, size_t count)
{
	struct live_patch *lpatch = to_patch(kobj);
	bool enable;
	int err;

	/* Just these two: kstrtobool() would take "only me" for "on". */
	if (sysfs_streq(page, "1"))
		enable = true;
	else if (sysfs_streq(page, "0"))
		enable = false;
	else
		return -EINVAL;
	err = kpatch_set_enabled(lpatch, enable);
	return err ?: count;
}

static ssize_t transition_show(struct kobject *kobj, struct kobj_attribute *attr, char *page)
{
	return sysfs_emit(page, "%d\n", READ_ONCE(to_patch(kobj)->transition));
}

static ssize_t consistency_show(struct kobject *kobj, struct kobj_attribute *attr, char *page)
{
	return kpatch_show_consistency(to_patch(kobj)->patch, page);
}

static ssize_t blocking_show(struct kobject *kobj, struct kobj_attribute *attr, char *page)
{
	return kpatch_show_blocking(to_patch(kobj), page);
}

static ssize_t transition_ns_show(struct kobject *kobj, struct kobj_attribute *attr, char *page)
{
	return sysfs_emit(page, "%llu\n", READ_ONCE(to_patch(kobj)->transition_ns));
}

static ssize_t window_ns_show(struct kobject *kobj, struct kobj_attribute *attr, char *page)
{
	return sysfs_emit(page, "%llu\n", READ_ONCE(to_patch(kobj)->window_ns));
}

static ssize_t checksum_show(struct kobject *kobj, struct kobj_attribute *attr, char *page)
{
	const char *checksum = to_patch(kobj)->patch->checksum;

	return checksum ? sysfs_emit(page, "%s\n", checksum) : 0;
}

static ssize_t forced_show(struct kobject *kobj, struct kobj_attribute *attr, char *page)
{
	return sysfs_emit(page, "%d\n", kpatch_forced(to_patch(kobj)));
}

static ssize_t replace_show(struct kobject *kobj, struct kobj_attribute *attr, char *page)
{
	return sysfs_emit(page, "%d\n", to_patch(kobj)->patch->replace);
}

static ssize_t replaces_show(struct kobject *kobj, struct kobj_attribute *attr, char *page)
{
	const char *name = to_patch(kobj)->patch->replaces;

	return name && *name ? sysfs_emit(page, "%s\n", name) : 0;
}

static struct kobj_attribute enabled_attr = __ATTR_RW(enabled);
static struct kobj_attribute transition_attr = __ATTR_RO(transition);
static struct kobj_attribute consistency_attr = __ATTR_RO(consistency);
static struct kobj_attribute window_ns_attr = __ATTR_RO(window_ns);
static struct kobj_attribute transition_ns_attr = __ATTR_RO(transition_ns);
static struct kobj_attribute blocking_attr = __ATTR_RO(blocking);

static struct kobj_attribute checksum_attr = __ATTR_RO(checksum);
static struct kobj_attribute patch_forced_attr = __ATTR_RO(forced);
static struct kobj_attribute replace_attr = __ATTR_RO(replace);
static struct kobj_attribute replaces_attr = __ATTR_RO(replaces);

static struct attribute *patch_attrs[] = {
	&enabled_attr.attr,
	&transition_attr.attr,
	&consistency_attr.attr,
	&window_ns_attr.attr,
	&transition_ns_attr.attr,
	&blocking_attr.attr,
	&checksum_attr.attr,
	&patch_forced_attr.attr,
	&replace_attr.attr,
	&replaces_attr.attr,
	NULL,
};
ATTRIBUTE_GROUPS(patch);

static void patch_release(struct kobject *kobj)
{
	complete(&to_patch(kobj)->released);
}

static struct kobj_type patch_type = {
	.release = patch_release,
	.sysfs_ops = &kobj_sysfs_ops,
	.default_groups = patch_groups,
};

/* patches/<module>/<object>/ */

static ssize_t patched_show(struct kobject *kobj, struct kobj_attribute *attr, char *page)
{
	struct live_object *obj = container_of(kobj, struct live_object, kobj);

	return sysfs_emit(page, "%d\n", READ_ONCE(obj->patched));
}

static struct kobj_attribute patched_attr = __ATTR_RO(patched);

static struct attribute *object_attrs[] = {
	&patched_attr.attr,
	NULL,
};
ATTRIBUTE_GROUPS(object);

/* Its memory is the patch's, and the patch's directory outlives it. */
static void child_release(struct kobject *kobj)
{
}

static struct kobj_type object_type = {
	.release = child_release,
	.sysfs_ops = &kobj_sysfs_ops,
	.default_groups = object_groups,
};

/* patches/<module>/<object>/<function>,<sympos>/ */

static struct live_func *to_func(struct kobject *kobj)
{
	return container_of(kobj, struct live_func, kobj);
}

static ssize_t old_addr_show(struct kobject *kobj, struct kobj_attribute *attr, char *page)
{
	unsigned long address;

	mutex_lock(&kpatch_mutex);
	address = kpatch_entry(&to_func(kobj)->old_code);
	mutex_unlock(&kpatch_mutex);
	return sysfs_emit(page, "%#lx\n", address);
}

static ssize_t new_addr_show(struct kobject *kobj, struct kobj_attribute *attr, char *page)
{
	return sysfs_emit(page, "%#lx\n", (unsigned long)to_func(kobj)->func->new_func);
}

static ssize_t sympos_show(struct kobject *kobj, struct kobj_attribute *attr, char *page)
{
	return sysfs_emit(page, "%lu\n", to_func(kobj)->func->sympos);
}

static ssize_t func_forced_show(struct kobject *kobj, struct kobj_attribute *attr, char *page)
{
	return sysfs_emit(page, "%d\n", to_func(kobj)->func->force);
}

static struct kobj_attribute sympos_attr = __ATTR_RO(sympos);
static struct kobj_attribute func_forced_attr = __ATTR(forced, 0444, func_forced_show, NULL);
static struct kobj_attribute old_addr_attr = __ATTR_RO_MODE(old_addr, 0400);
static struct kobj_attribute new_addr_attr = __ATTR_RO_MODE(new_addr, 0400);

static struct attribute *func_attrs[] = {
	&old_addr_attr.attr,
	&new_addr_attr.attr,
	&sympos_attr.attr,
	&func_forced_attr.attr,
	NULL,
};
ATTRIBUTE_GROUPS(func);

static struct kobj_type func_type = {
	.release = child_release,
	.sysfs_ops = &kobj_sysfs_ops,
	.default_groups = func_groups,
};

static int add_object(struct live_patch *lpatch, struct live_object *obj)
{
	struct live_func *func;
	int err;

	err = kobject_init_and_add(&obj->kobj, &object_type, &lpatch->kobj, "%s",
				   kpatch_object_name(obj->object));
	err = err ?: kpatch_fault();
	if (err)
		return err;
	for_each_live_func(obj, func) {
		err = kobject_init_and_add(&func->kobj, &func_type, &obj->kobj, "%s,%lu",
					   func->func->name, func->func->sympos);
		err = err ?: kpatch_fault();
		if (err)
			return err;
	}
	return 0;
}

static void put_if_added(struct kobject *kobj)
{
	if (kobj->state_initialized)
		kobject_put(kobj);
}

/* The caller does not hold kpatch_mutex. */
int kpatch_sysfs_add(struct live_patch *lpatch)
{
	struct live_object *obj;
	int err;

	init_completion(&lpatch->released);
	err = kobject_init_and_add(&lpatch->kobj, &patch_type, patches_dir, "%s",
				   lpatch->patch->owner->name);
	err = err ?: kpatch_fault();
	if (err)
		goto remove;
	for_each_live_object(lpatch, obj) {
		err = add_object(lpatch, obj);
		if (err)
			goto remove;
	}
	return 0;

remove:
	kpatch_refuse("the directory of %s in sysfs can't be made (%d)",
		      lpatch->patch->owner->name, err);
	kpatch_sysfs_remove(lpatch);
	return err;
}

/* The caller does not hold kpatch_mutex. Nobody reads or writes afterwards. */
void kpatch_sysfs_remove(struct live_patch *lpatch)
{
	struct live_object *obj;
	struct live_func *func;

	for_each_live_object(lpatch, obj) {
		for_each_live_func(obj, func)
			put_if_added(&func->kobj);
		put_if_added(&obj->kobj);
	}
	kobject_put(&lpatch->kobj);
	wait_for_completion(&lpatch->released);
}

int kpatch_sysfs_init(void)
{
	int err;

	root_dir = kobject_create_and_add("kpatch", kernel_kobj);
	if (!root_dir)
		return -ENOMEM;
	patches_dir = kobject_create_and_add("patches", root_dir);
	err = patches_dir ? sysfs_create_files(root_dir, root_attrs) : -ENOMEM;
	if (err) {
		kobject_put(patches_dir);
		kobject_put(root_dir);
	}
	return err;
}

void kpatch_sysfs_exit(void)
{
	sysfs_remove_files(root_dir, root_attrs);
	kobject_put(patches_dir);
	kobject_put(root_dir);
}
