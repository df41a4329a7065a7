#!/usr/bin/python
# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gate
short_description: Decide whether the next batch may begin
version_added: 1.0.0
author:
  - kpatch.fleet contributors (@kpatch-fleet)
description:
  - Reads the ledger. The gate is shut if a host has failed or was lost, if one of an earlier batch has no outcome, if
    the ledger is damaged, or if the store is no longer what the plan was made with.
  - It is shut, too, in a blackout window, if too many hosts could be down at once, and if another run has the fleet.
  - A shut gate is no failure, so that the report is still written; it fails the hosts that are to blame.
  - Works on the controller alone.
options:
  hosts:
    description:
      - The hosts of the next batch; they have to be all that is left of a batch of the plan.
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
- name: Ask the gate
  kpatch.fleet.gate:
    rollout: "{{ plan.rollout }}"
    hosts: "{{ ansible_play_batch }}"
  register: gate
  run_once: true

- name: Go on
  ansible.builtin.include_tasks: host.yml
  when: gate.open
"""

RETURN = r"""
open:
  description: Whether the batch may begin.
  type: bool
  returned: success
reasons:
  description: Why it may not.
  type: list
  elements: str
  returned: success
batch:
  description: The batch's number, counted from 1.
  type: int
  returned: success
"""
