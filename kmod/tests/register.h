/* SPDX-License-Identifier: GPL-2.0-only */
/* register.h - the end of a patch module whose KPT_PATCH() is registered as it is */
#ifndef _KPT_REGISTER_H
#define _KPT_REGISTER_H

/* One that completes its tables first has an init function of its own. */
#ifndef KPT_INIT
static int __init kpt_init(void)
{
	return kpatch_register(&kpt_patch);
}
#endif

static void __exit kpt_exit(void)
{
	kpatch_unregister(&kpt_patch);
}

module_init(kpt_init);
module_exit(kpt_exit);
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");

#endif /* _KPT_REGISTER_H */
