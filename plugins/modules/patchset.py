#!/usr/bin/python
# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts the core module and several live patches on one host, or takes them off."""

from __future__ import annotations

DOCUMENTATION = r"""
module: patchset
short_description: Bring the core module and several live patches to the wanted state at once
version_added: 1.0.0
author:
  - kpatch.fleet contributors (@kpatch-fleet)
description:
  - Does what M(kpatch.fleet.core) and then M(kpatch.fleet.patch) for each patch would do, in one round trip.
  - All artifacts are checked on the controller before the first of them is shipped, and all that the host needs are on
    it before the first is loaded.
  - Stops at the first part that fails, which is left as it was. The parts before it stay as they were brought, unless
    another build of the set was running, or a patch is O(obsolete). What ran before is then put back as a whole.
  - Of two patches that replace the same function the later one in O(names) is in charge. One that stays goes off and
    comes on again if an earlier one changes; if it is not in O(names), nothing is done (V(foreign-patch)).
  - A core module is replaced by another one together with the patches that use it, if O(names) has them all.
options:
  names:
    description:
      - The names of the patches, in the order in which they are enabled. They are removed in the reverse order.
    type: list
    elements: str
    required: true
  state:
    description:
      - V(enabled) loads and enables them, from O(store).
      - V(absent) disables and unloads them and removes their staged files.
      - V(restored) takes the change O(undoes) back. The host has what it had before it, the core module included,
        out of what the host itself has kept since. It is kept until the host is changed again.
    type: str
    choices: [enabled, absent, restored]
    default: enabled
  core:
    description:
      - Whether the core module is loaded before the patches, or unloaded after them. It is neither shipped nor loaded
        where all patches are for the kernel's own livepatch, which need none.
      - Without it the core module has to be loaded already if patches are to be enabled.
      - It can't be unloaded while a patch that is not named needs it.
    type: bool
    default: true
  planned:
    description:
      - The sha256 that the artifact of each part has to have, by name. The core module's name is V(kpatch).
      - Where it is given, an artifact that is not named, or has another one, is refused (V(tampered)), though it may be
        the artifact of its manifest.
    type: dict
  undoes:
    description:
      - The name of the change, given as O(order) with it, that O(state=restored) takes back.
      - If the host has been changed again since, or runs another kernel, nothing is done (V(not-kept)).
    type: str
  obsolete:
    description:
      - The names of patches that are not wanted any more, with O(state=enabled). They are taken off after those of
        O(names) are on, so that no fix is off before its successor is on, and their staged files are removed.
      - A patch is touched only if it is the build of which the host itself keeps the manifest. One that only has the
        same name is left alone, with a warning.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - kpatch.fleet.attributes
  - kpatch.fleet.attributes.action
  - kpatch.fleet.attributes.artifact
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
seealso:
  - module: kpatch.fleet.core
  - module: kpatch.fleet.host_info
  - module: kpatch.fleet.patch
"""

EXAMPLES = r"""
- name: Look at the host
  kpatch.fleet.host_info:
  register: look

- name: Load the core module and enable two patches
  kpatch.fleet.patchset:
    names: [demo-meminfo, demo-vlan]
    store: ~/.local/share/kpatch.fleet/store
    host: "{{ look.host }}"
  become: true

- name: Have one patch take the place of another
  kpatch.fleet.patchset:
    names: [demo-meminfo, demo-vlan-2]
    obsolete: [demo-vlan]
    store: ~/.local/share/kpatch.fleet/store
  become: true

- name: Take that back, which was done with the order 'change 7'
  kpatch.fleet.patchset:
    names: [demo-meminfo, demo-vlan-2]
    state: restored
    undoes: change 7
  become: true

- name: Take all of it off again
  kpatch.fleet.patchset:
    names: [demo-meminfo, demo-vlan-2]
    state: absent
  become: true
"""

RETURN = r"""
msg:
  description: What was done, or what went wrong, the mend, and the state that each part is in.
  type: str
  returned: always
reason:
  description: Why it failed, in a word out of those of RV(kpatch.fleet.patch#module:reason).
  type: str
  returned: on failure
results:
  description:
    - The results of the parts that were tried, in order, as M(kpatch.fleet.core) and M(kpatch.fleet.patch) return them.
      The last one has failed if one has.
  type: list
  elements: dict
  returned: if the host could be read
host:
  description: The host after that, as RV(kpatch.fleet.host_info#module:host). In check mode, as it is.
  type: dict
  returned: if the host could be read
before:
  description: The state of each part before, by module, as RV(kpatch.fleet.patch#module:before).
  type: dict
  returned: if the host could be read
after:
  description: The same afterwards; in check mode, what it would be.
  type: dict
  returned: if the host could be read
diff:
  description: The same two, for diff mode.
  type: dict
  returned: if the host could be read
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kpatch.fleet.plugins.module_utils.host.entry import carry_out, finish
from ansible_collections.kpatch.fleet.plugins.module_utils.host.parts import argument_spec


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec("patchset"), supports_check_mode=True)
    finish(module, carry_out("patchset", module.params, module.check_mode))


if __name__ == "__main__":
    main()
