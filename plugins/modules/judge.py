#!/usr/bin/python
# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: judge
short_description: Judge a batch after its soak
version_added: 1.0.0
author:
  - kpatch.fleet contributors (@kpatch-fleet)
description:
  - Reads the outcomes and the looks of a batch in the ledger, and writes the verdict there.
  - V(pass) lets the rollout go on. V(fail) counts against the failure budget. V(inconclusive) holds it.
  - Says which hosts are to be taken back if the verdict stops the rollout and the policy wants it.
  - Works on the controller alone.
options:
  hosts:
    description:
      - The hosts of the batch, or some of them.
    type: list
    elements: str
    required: true
extends_documentation_fragment:
  - kpatch.fleet.attributes
  - kpatch.fleet.attributes.action
  - kpatch.fleet.attributes.rollout
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
"""

EXAMPLES = r"""
- name: Judge the batch
  kpatch.fleet.judge:
    rollout: "{{ plan.rollout }}"
    hosts: "{{ ansible_play_batch }}"
  register: judged
  run_once: true
"""

RETURN = r"""
verdict:
  description: V(pass), V(fail) or V(inconclusive).
  type: str
  returned: success
reasons:
  description: Why it is not V(pass).
  type: list
  elements: str
  returned: success
batch:
  description: The batch's number, counted from 1.
  type: int
  returned: success
undo:
  description:
    - The hosts on which the rollout is to be taken back, each with the C(order) that changed it and what it ran before
      (C(runs)).
  type: dict
  returned: success
"""
