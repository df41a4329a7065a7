#!/usr/bin/python
# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: record
short_description: Write a step of a host into the ledger
version_added: 1.0.0
author:
  - kpatch.fleet contributors (@kpatch-fleet)
description:
  - Adds a line to the ledger of a rollout; it is on disk when the task ends.
  - A host is judged by the look at it. What the tasks returned tells why it is not as wanted.
  - Works on the controller alone.
options:
  step:
    description:
      - V(begin) is recorded before a host is changed, and tells whether it has to be.
      - V(failed) is recorded if the change went wrong, before the host is looked at again.
      - V(end) judges the host, and is what the next gate reads.
      - V(look) is one look during a soak, which M(kpatch.fleet.judge) reads.
      - V(undo) tells whether there is anything to be taken back, and records nothing.
      - V(undone) is recorded after the rollout was taken back on the host.
    type: str
    choices: [begin, failed, end, look, undo, undone]
    required: true
  look:
    description:
      - A fresh result of M(kpatch.fleet.host_info) or M(kpatch.fleet.probe).
      - For V(end) that of M(kpatch.fleet.patchset) will do, too.
    type: dict
  order:
    description:
      - The name of the order that changed the host. If its result did not come back, the look brings it.
    type: str
  before:
    description:
      - What the host ran before the change that is taken back; with V(undo) and V(undone), out of
        RV(kpatch.fleet.judge#module:undo).
    type: dict
  results:
    description:
      - What the tasks have returned that changed the host.
    type: list
    elements: raw
    default: []
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
- name: Record the outcome
  kpatch.fleet.record:
    rollout: "{{ plan.rollout }}"
    step: end
    look: "{{ change }}"
    results: ["{{ change }}"]
"""

RETURN = r"""
act:
  description: Whether the host is to be changed.
  type: bool
  returned: with the steps V(begin) and V(undo)
order:
  description: A name for the order that changes the host.
  type: str
  returned: with step V(begin)
core:
  description: Whether the core module is to be changed, too.
  type: bool
  returned: with step V(begin)
planned:
  description: The sha256 of each artifact that the plan was made with for the host's kernel, by its name.
  type: dict
  returned: with step V(begin)
obsolete:
  description: The patches that have left the patch set and are to be taken off the host.
  type: list
  elements: str
  returned: with step V(begin)
failure:
  description: What went wrong.
  type: str
  returned: with step V(failed)
state:
  description: The state that the host is in.
  type: str
  returned: if the host is judged
reason:
  description: Why it is in that state.
  type: str
  returned: if the host is judged
fault:
  description: Whether that stops the rollout before the next batch.
  type: bool
  returned: if the host is judged
"""
