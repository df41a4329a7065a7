/* SPDX-License-Identifier: GPL-2.0-only */
/* model.h - the end of a patch module whose consistency its parameters say */
#ifndef _KPT_MODEL_H
#define _KPT_MODEL_H

static uint leave = KPATCH_LEAVE_PATCHED_SET;
module_param(leave, uint, 0444);
MODULE_PARM_DESC(leave, "enum kpatch_leave");

static uint switching = KPATCH_SWITCH_KERNEL;
module_param(switching, uint, 0444);
MODULE_PARM_DESC(switching, "enum kpatch_switch");

static uint means = KPATCH_BY_STOPPING;
module_param(means, uint, 0444);
MODULE_PARM_DESC(means, "enum kpatch_means");

static int __init kpt_init(void)
{
	kpt_patch.leave = leave;
	kpt_patch.switching = switching;
	kpt_patch.means = means;
	return kpatch_register(&kpt_patch);
}

static void __exit kpt_exit(void)
{
	kpatch_unregister(&kpt_patch);
}

module_init(kpt_init);
module_exit(kpt_exit);
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");

#endif /* _KPT_MODEL_H */
