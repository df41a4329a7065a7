#!/usr/bin/python
# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts the core module on one host, or takes it off."""

from __future__ import annotations

DOCUMENTATION = r"""
module: core
short_description: Load or unload the core module that patch modules need
version_added: 1.0.0
author:
  - kpatch.fleet contributors (@kpatch-fleet)
description:
  - Loads the core module that was built for the very kernel that the host runs, or unloads it.
  - Another build of it is replaced, unless patches are registered with it.
  - Everything that can be known before is checked before the load. A load that fails leaves the host as it was.
options:
  state:
    description:
      - V(loaded) loads it from O(store).
      - V(absent) unloads it and removes its staged file.
    type: str
    choices: [loaded, absent]
    default: loaded
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
  - module: kpatch.fleet.core_build
  - module: kpatch.fleet.host_info
  - module: kpatch.fleet.patch
  - module: kpatch.fleet.patchset
"""

EXAMPLES = r"""
- name: Load the core module
  kpatch.fleet.core:
    store: ~/.local/share/kpatch.fleet/store
  become: true

- name: Unload it
  kpatch.fleet.core:
    state: absent
  become: true
"""

RETURN = r"""
msg:
  description: What was done, or what went wrong, the mend, and the state that the host is in.
  type: str
  returned: always
reason:
  description:
    - Why it failed, in one word out of these.
    - V(bad-arguments), an option is missing, or not what it has to be.
    - V(bad-manifest), the manifest that came with the artifact is malformed.
    - V(busy), a task is in the way; the message names it.
    - V(core-in-use), patches are registered with the core module.
    - V(core-mismatch), the core module there has another ABI than the patch needs.
    - V(core-missing), the core module is not loaded.
    - V(damaged), what the host keeps for its boots can't be read; nothing is loaded.
    - V(foreign-patch), another live patch holds one of the functions.
    - V(io-error), the system refused to read or write a file.
    - V(load-failed), the kernel refused the module for some other reason.
    - V(locked), another run is changing this host.
    - V(lockdown), the kernel is locked down and the module is not signed.
    - V(modules-disabled), kernel.modules_disabled is 1.
    - V(needs-build), the store has no artifact for this kernel.
    - V(no-space), the file system is full, by bytes, inodes or quota.
    - V(not-kept), what ran before is not kept on the host any more.
    - V(not-permitted), not root.
    - V(older), a newer build of the module was here before.
    - V(read-only), the file system is mounted read-only.
    - V(signature), the kernel wants a valid signature.
    - V(stalled), a switch did not end in time.
    - V(switch-failed), the core module refused to enable or disable.
    - V(tampered), the bytes are not those of the manifest.
    - V(transfer-failed), the artifact did not reach the host.
    - V(unload-failed), the kernel refused to unload the module.
    - V(wrong-identity), what was loaded is not what the manifest says.
    - V(wrong-kernel), the artifact was built for another kernel.
    - V(wrong-vermagic), the module was compiled for another kernel.
  type: str
  returned: on failure
  choices:
    - bad-arguments
    - bad-manifest
    - busy
    - core-in-use
    - core-mismatch
    - core-missing
    - damaged
    - foreign-patch
    - io-error
    - load-failed
    - locked
    - lockdown
    - modules-disabled
    - needs-build
    - no-space
    - not-kept
    - not-permitted
    - older
    - read-only
    - signature
    - stalled
    - switch-failed
    - tampered
    - transfer-failed
    - unload-failed
    - wrong-identity
    - wrong-kernel
    - wrong-vermagic
before:
  description: The module's state before.
  type: dict
  returned: if the host could be read
  contains:
    module: {description: The kernel module's name., type: str, returned: success}
    state: {description: "V(loaded) or V(absent).", type: str, returned: success}
    identity:
      description: V(wanted) if these are the bytes of the artifact, V(different) if another build is loaded, else null.
      type: str
      returned: success
    transition: {description: Whether a switch is under way., type: bool, returned: success}
    srcversion: {description: The loaded module's srcversion., type: str, returned: success}
    build_id: {description: The loaded module's GNU build id., type: str, returned: success}
    staged: {description: Whether a file is staged; null if only root can tell., type: bool, returned: success}
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
    module = AnsibleModule(argument_spec=argument_spec("core"), supports_check_mode=True)
    finish(module, carry_out("core", module.params, module.check_mode))


if __name__ == "__main__":
    main()
