#!/usr/bin/python
# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: report
short_description: Write and print what a rollout has come to
version_added: 1.0.0
author:
  - kpatch.fleet contributors (@kpatch-fleet)
description:
  - Writes C(report.html), C(report.md), C(report.json), C(report.csv) and C(report.xml) (JUnit) beside the plan, and
    prints a short form.
  - Made of the plan and the ledger alone. After the controller was killed it tells which hosts were under way.
  - Works on the controller alone. Never reports a change, since it changes no host.
options:
  rollout:
    description:
      - The rollout's directory, on the controller. By default the one named by O(home) and O(id).
    type: path
  home:
    description:
      - The directory that holds C(rollouts/). By default C(~/.local/share/kpatch.fleet).
    type: path
  id:
    description:
      - Name of the rollout. By default the newest.
    type: str
  require_all:
    description:
      - Whether hosts that were left out are failures, too.
    type: bool
    default: true
  metrics:
    description:
      - A file for the node exporter's textfile collector on the controller, to which the rollout's metrics are written.
      - Needs the Python package C(prometheus-client) there.
    type: path
extends_documentation_fragment:
  - kpatch.fleet.attributes
  - kpatch.fleet.attributes.action
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
"""

EXAMPLES = r"""
- name: Report on the newest rollout
  kpatch.fleet.report:
    home: ~/.local/share/kpatch.fleet
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
report:
  description: What C(report.json) holds.
  type: dict
  returned: success
failures:
  description: The hosts that went wrong, each with one sentence.
  type: dict
  returned: success
rollout:
  description: The rollout's directory.
  type: str
  returned: success
"""
