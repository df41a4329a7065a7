#!/usr/bin/python
# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads one host's kernel, core module and live patches."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_info
short_description: Read which kernel a host runs and which live patches are on
version_added: 1.0.0
author:
  - kpatch.fleet contributors (@kpatch-fleet)
description:
  - Reads the state from the kernel itself, that is from C(/proc/sys/kernel), C(/sys/module), C(/sys/kernel/kpatch) and
    C(/sys/kernel/livepatch).
  - Needs no privileges. Only what is staged in C(/var/lib/kpatch.fleet) is for root to see.
options:
  root:
    description:
      - The directory in which C(proc), C(sys) and C(var) are looked for.
    type: path
    default: /
extends_documentation_fragment:
  - kpatch.fleet.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
    details: Changes nothing.
seealso:
  - module: kpatch.fleet.core
  - module: kpatch.fleet.patch
"""

EXAMPLES = r"""
- name: Look at the host
  kpatch.fleet.host_info:
  register: look

- name: Show which patches are on
  ansible.builtin.debug:
    msg: "{{ look.host.patches | selectattr('enabled') | map(attribute='module') }}"
"""

RETURN = r"""
reason:
  description: Why the host could not be read. V(io-error) or V(not-permitted).
  type: str
  returned: on failure
host:
  description: The host as its kernel tells it.
  type: dict
  returned: success
  contains:
    kernel:
      description: The running kernel.
      type: dict
      returned: success
      contains:
        release: {description: As C(uname -r) prints it., type: str, returned: success}
        version: {description: As C(uname -v) prints it., type: str, returned: success}
        machine: {description: As C(uname -m) prints it., type: str, returned: success}
        build_id: {description: The GNU build id as hex digits; null if it can't be read., type: str, returned: success}
        boot_id: {description: Another one after each boot., type: str, returned: success}
        taint:
          description: The RV(ignore:value) of the taint mask, the letters of its bits in RV(ignore:flags) and their
            RV(ignore:names).
          type: dict
          returned: success
        counters:
          description: How often the kernel met with an C(oops) or C(warn)ed since its boot; null if it doesn't tell.
          type: dict
          returned: success
        lockdown: {description: "V(none), V(integrity) or V(confidentiality).", type: str, returned: success}
        signatures_enforced: {description: Whether only signed modules are taken., type: bool, returned: success}
        trusted_keys:
          description: The ids of the public keys in the kernel's keyrings; null if none is shown. Only root sees them.
          type: list
          elements: str
          returned: success
        modules_disabled: {description: Whether no module is taken until a reboot., type: bool, returned: success}
    core:
      description: The core module; null if it isn't loaded.
      type: dict
      returned: success
      contains:
        module: {description: The module's name., type: str, returned: success}
        initstate: {description: "V(live), V(coming) or V(going).", type: str, returned: success}
        srcversion: {description: The module's srcversion., type: str, returned: success}
        build_id: {description: The module's GNU build id., type: str, returned: success}
        refcnt: {description: How many use it., type: int, returned: success}
        taint: {description: The letters of the taint flags that it set., type: str, returned: success}
        abi: {description: The version of the interface for patch modules., type: int, returned: success}
    patches:
      description: The patch modules of this collection that are loaded.
      type: list
      elements: dict
      returned: success
      contains:
        module: {description: "The patch's module, whichever build of it.", type: str, returned: success}
        loaded_as: {description: The name by which the kernel knows this build of it., type: str, returned: success}
        initstate: {description: "V(live), V(coming) or V(going).", type: str, returned: success}
        srcversion: {description: The module's srcversion., type: str, returned: success}
        build_id: {description: The module's GNU build id., type: str, returned: success}
        refcnt: {description: How many use it; an enabled patch uses itself., type: int, returned: success}
        taint: {description: The letters of the taint flags that it set., type: str, returned: success}
        backend: {description: Always V(kpatch)., type: str, returned: success}
        registered: {description: Whether the core module knows it., type: bool, returned: success}
        enabled: {description: Whether its functions are in use., type: bool, returned: success}
        transition: {description: Whether a switch is under way., type: bool, returned: success}
        forced:
          description: Whether it replaces functions under tasks that are in them. It can't be unloaded before a reboot.
          type: bool
          returned: success
        blocking:
          description: The tasks that hold up a switch, each with its number, its name and where it is.
          type: list
          elements: str
          returned: success
        consistency:
          description: "What a task must C(leave) and what is C(switch)ed at once; null if it isn't registered."
          type: dict
          returned: success
        window_ns:
          description: How many nanoseconds the machine was stopped for the last switch.
          type: int
          returned: success
        objects:
          description: >-
            What it replaces, by object. Each has a C(name), whether it is C(patched) now, and its C(functions) with
            C(name) and C(sympos).
          type: list
          elements: dict
          returned: success
    livepatches:
      description: The live patches of the kernel's own livepatch. C(module), C(enabled), C(transition), C(objects).
      type: list
      elements: dict
      returned: success
    order:
      description: >-
        The last order to change the host since it was booted, by its name in RV(ignore:order); whether it is
        RV(ignore:running) still, and its RV(ignore:result) if it is not. Null if there was none; for root only.
      type: dict
      returned: success
    staged:
      description: The modules staged for the running kernel, which proves nothing about what runs. For root only.
      type: list
      elements: str
      returned: success
    manifests:
      description: >-
        Of each staged module C(module), C(name), C(srcversion) and C(build_id), in the order in which they were
        enabled. What is loaded is ours if it is one of these. For root only.
      type: list
      elements: dict
      returned: success
    at_boot:
      description: >-
        The modules that are on again at a boot into this kernel, in the order in which they are loaded. Null if that is
        damaged; for root only.
      type: list
      elements: str
      returned: success
    damaged:
      description: Why that can't be read, with the file and the mend; null if it can. Nothing is loaded meanwhile.
      type: str
      returned: success
    unfinished:
      description: Whether an upgrade of a set was cut off; the next change of the host undoes it first. For root only.
      type: bool
      returned: success
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kpatch.fleet.plugins.module_utils.host.errors import HostError
from ansible_collections.kpatch.fleet.plugins.module_utils.host.state import read_host


def main() -> None:
    module = AnsibleModule(
        argument_spec={"root": {"type": "path", "default": "/"}},
        supports_check_mode=True,
    )
    try:
        host = read_host(Path(module.params["root"]))
    except HostError as error:
        module.fail_json(msg=str(error), reason=error.reason)
    module.exit_json(changed=False, host=host)


if __name__ == "__main__":
    main()
