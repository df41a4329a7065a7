/* SPDX-License-Identifier: GPL-2.0-only */
/* target.h - what the files of the target module share */
int target_other_twin(void);
