#!/usr/bin/python
# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: plan
short_description: Write down what a rollout is to do
version_added: 1.0.0
author:
  - kpatch.fleet contributors (@kpatch-fleet)
description:
  - Decides which hosts are to be changed and in which batches, and writes that down before anything is changed.
  - Each kernel release has a canary. The rest is spread over failure domains and kernels.
  - Takes the lease of the fleet, which one rollout at a time can have. It is given back by M(kpatch.fleet.report).
  - Refuses to run in a slice of an AWX job.
  - A host that is as wanted already, or can't be patched, is in no batch.
  - Works on the controller alone. Never reports a change, since it changes no host.
options:
  looks:
    description:
      - The result of M(kpatch.fleet.host_info) for each host, by the host's name, failed ones included.
    type: dict
    required: true
  patches:
    description:
      - The patch set. Each has a C(name); C(leave) and C(switch), if given, have to be those of the artifact.
    type: list
    elements: dict
    required: true
  state:
    description:
      - Whether the patches are put on or taken off.
    type: str
    choices: [applied, absent]
    default: applied
  core:
    description:
      - Whether the core module is taken off with the patches, unless others need it.
    type: bool
    default: true
  batches:
    description:
      - Sizes of the batches, each a number or a share of the hosts that are to be changed. The last holds for the rest.
    type: list
    elements: raw
    default: [1, "50%", "100%"]
  store:
    description:
      - The store of artifacts, on the controller. Every artifact is compared with its manifest.
    type: path
    required: true
  home:
    description:
      - The directory in which C(rollouts/<id>) is made.
    type: path
    required: true
  id:
    description:
      - Name of the rollout. By default the time of day.
    type: str
  policy:
    description:
      - What the rollout may risk. The README of the role P(kpatch.fleet.rollout#role) lists its keys.
    type: dict
    default: {}
  downgrade:
    description:
      - Whether an artifact may be older than one of the same module and kernel that was in an earlier plan.
    type: bool
    default: false
  drop:
    description:
      - Names of patches, or patterns, that may be taken off though nothing takes their place. The plan is refused if
        the patch set does not name one that a host has, O(keep) does not keep it, and this does not name it either.
      - A newer build of a patch of the set, and a cumulative one (C(replace)), take the place of what was there before.
    type: list
    elements: str
    default: []
  resume:
    description:
      - A rollout that is to be taken up again where its ledger and the hosts say, by its id, its directory, its
        C(plan.json) or V(newest). Its plan holds; O(batches), O(policy) and O(id) are not used. What it was told to
        keep and to drop holds, too, beside O(keep) and O(drop).
      - Hosts that are not in that plan are told, and not touched.
    type: str
  retry:
    description:
      - A rollout, named in the same ways. Only the hosts that went wrong there are in the new plan.
    type: str
extends_documentation_fragment:
  - kpatch.fleet.attributes
  - kpatch.fleet.attributes.action
  - kpatch.fleet.attributes.keep
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
"""

EXAMPLES = r"""
- name: Freeze the plan
  kpatch.fleet.plan:
    looks: "{{ dict(ansible_play_hosts | zip(ansible_play_hosts | map('extract', hostvars, 'look'))) }}"
    patches: "{{ kpatch_patches }}"
    store: ~/.local/share/kpatch.fleet/store
    home: ~/.local/share/kpatch.fleet
  register: plan
  run_once: true
"""

RETURN = r"""
rollout:
  description: The directory with the plan. In check mode a temporary one, which M(kpatch.fleet.report) removes.
  type: str
  returned: success
id:
  description: Name of the rollout.
  type: str
  returned: success
batches:
  description: The hosts of each batch; with O(resume) those that are left.
  type: list
  elements: list
  returned: success
policy:
  description: The policy with its defaults.
  type: dict
  returned: success
hosts:
  description:
    - The state that each host was found in, and why, by the host's name.
    - In RV(ignore:obsolete) are the patches of ours that the host has and the patch set does not name any more. A
      rollout takes them off. RV(ignore:loses) has those of them whose place nothing takes.
    - In RV(ignore:again) are the patches that go off and come on again, to stay above what changes below them.
  type: dict
  returned: success
"""
