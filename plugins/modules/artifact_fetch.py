#!/usr/bin/python
# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: artifact_fetch
short_description: Bring an artifact from the builder to the controller
version_added: 1.0.0
author:
  - kpatch.fleet contributors (@kpatch-fleet)
description:
  - Copies an artifact from the builder into the controller's store, unless it is there, and makes it the current one.
  - It is compared with its manifest, and appears in the store whole.
options:
  path:
    description:
      - The artifact's directory on the builder.
    type: str
    required: true
  manifest:
    description:
      - Its manifest, as M(kpatch.fleet.core_build) and M(kpatch.fleet.patch_build) return it.
    type: dict
    required: true
  store:
    description:
      - The store on the controller.
    type: path
    required: true
  signature:
    description:
      - The signature of its manifest, as M(kpatch.fleet.core_build) and M(kpatch.fleet.patch_build) return it.
    type: str
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
- name: Fetch the core module
  kpatch.fleet.artifact_fetch:
    path: "{{ built.path }}"
    manifest: "{{ built.manifest }}"
    store: ~/.local/share/kpatch.fleet/store
"""

RETURN = r"""
path:
  description: The artifact's directory on the controller.
  type: str
  returned: success
"""
