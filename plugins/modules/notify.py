#!/usr/bin/python
# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: notify
short_description: Tell webhooks how a rollout stands
version_added: 1.0.0
author:
  - kpatch.fleet contributors (@kpatch-fleet)
description:
  - Posts a JSON object to each webhook. Its C(text) is what most chats show; the rest is for programs.
  - A webhook that can't be told is a warning, since it must not stop a rollout. Check mode tells nobody.
  - Works on the controller alone.
options:
  event:
    description:
      - What has happened. V(end) is told as C(stop) or C(done), as the rollout was decided.
    type: str
    choices: [start, batch, wait, end]
    required: true
  urls:
    description:
      - The webhooks. They are not shown, since they often hold a token.
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
- name: Tell that the gate waits
  kpatch.fleet.notify:
    rollout: "{{ plan.rollout }}"
    event: wait
    urls: "{{ kpatch_webhooks }}"
  run_once: true
"""

RETURN = r"""
event:
  description: What was told.
  type: str
  returned: success
untold:
  description: One sentence for each webhook that could not be told.
  type: list
  elements: str
  returned: success
"""
