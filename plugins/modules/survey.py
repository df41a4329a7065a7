#!/usr/bin/python
# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: survey
short_description: Show what the hosts of a fleet run
version_added: 1.0.0
author:
  - kpatch.fleet contributors (@kpatch-fleet)
description:
  - Prints a table of the hosts with their kernels, core modules, patches and taint flags.
  - Works on the controller alone.
options:
  looks:
    description:
      - The result of M(kpatch.fleet.host_info) for each host, by the host's name, failed ones included.
    type: dict
    required: true
  patches:
    description:
      - A patch set. With it and O(store) the state of each host is told, too, and which CVEs it mends where, if its
        patches name their C(cves).
    type: list
    elements: dict
    default: []
  store:
    description:
      - The store of artifacts, on the controller.
    type: path
  sources:
    description:
      - Whether each patch's source has to be there; its path is then made absolute.
    type: bool
    default: false
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
- name: Show what runs where
  kpatch.fleet.survey:
    looks: "{{ dict(ansible_play_hosts | zip(ansible_play_hosts | map('extract', hostvars, 'look'))) }}"
  run_once: true
"""

RETURN = r"""
kernels:
  description: Each distinct kernel once, with RV(ignore:label), RV(ignore:kernel) and RV(ignore:hosts).
  type: list
  elements: dict
  returned: success
lost:
  description: Why a host could not be read, by its name.
  type: dict
  returned: success
hosts:
  description: State and reason of each host, by its name; empty without O(store).
  type: dict
  returned: success
cves:
  description:
    - For each CVE that the patch set names, its RV(ignore:patches) and the hosts that are RV(ignore:mended),
      RV(ignore:open) and RV(ignore:unknown). Empty without O(store).
    - Whether a kernel without the patch is vulnerable at all is not known here.
  type: dict
  returned: success
patches:
  description: The patch set.
  type: list
  elements: dict
  returned: success
"""
