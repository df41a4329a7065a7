#!/usr/bin/python
# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wakes up one virtual machine of a lab, or removes it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: lab_vm
short_description: Run or remove one virtual machine of a lab
version_added: 1.0.0
description:
  - Wakes up a machine from one that M(kpatch.fleet.lab_golden) saved, gives it its name, and loads modules in it.
  - A machine that runs and is what is asked for is left alone. One that died, or that is asked for differently now,
    is made anew from the saved one. Nothing of its old disk is kept.
  - It is reached by ssh as root, through a port of the loopback interface, and reaches no network itself.
options:
  directory:
    description: The lab's directory. The machine has a directory of its name in it.
    type: path
    required: true
  name:
    description: Name of the machine and its host name; lower-case letters, digits and C(-).
    type: str
    required: true
  state:
    description: Whether the machine runs, or is stopped and removed.
    type: str
    choices: [present, absent]
    default: present
  golden:
    description: What to wake up, as M(kpatch.fleet.lab_golden) returned it. Needed for O(state=present).
    type: path
  modules:
    description: Kernel modules to load now and at each boot.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    support: full
    description: Says whether the machine would be made or removed.
  diff_mode:
    support: none
    description: Nothing of a machine is shown as a difference; RV(reason) says why it was made.
requirements:
  - qemu-system-x86, qemu-utils and openssh-client on the machine that carries the lab
author:
  - kpatch.fleet contributors (@kpatch-fleet)
"""

EXAMPLES = r"""
- name: Run a machine
  kpatch.fleet.lab_vm:
    directory: /var/cache/kpatch.fleet/lab/demo
    name: web1
    golden: "{{ golden.path }}"
    modules: [8021q]

- name: Remove it
  kpatch.fleet.lab_vm:
    directory: /var/cache/kpatch.fleet/lab/demo
    name: web1
    state: absent
"""

RETURN = r"""
reason:
  description: Why the machine was (or in check mode, would be) made; empty if it was kept.
  returned: O(state=present)
  type: str
variables:
  description: The variables with which Ansible reaches the machine; empty in check mode if it doesn't run.
  returned: O(state=present)
  type: dict
  sample: {"ansible_host": "127.0.0.1", "ansible_port": 41234}
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kpatch.fleet.plugins.module_utils.lab import vm
from ansible_collections.kpatch.fleet.plugins.module_utils.lab.base import LabError


def apply(asked: dict[str, Any], act: bool) -> dict[str, Any]:
    """Bring the machine to the state that was *asked* for and return the module's result."""
    lab = Path(asked["directory"])
    if asked["state"] == "absent":
        return {"changed": vm.remove(lab, asked["name"], act)}
    golden = Path(asked["golden"])
    port, reason = vm.ensure(lab, vm.Spec(asked["name"], golden, asked["modules"]), act)
    variables = {} if port is None else vm.connection(port, golden)
    return {"changed": bool(reason), "reason": reason, "variables": variables}


def main() -> None:
    """Module entry point."""
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "golden": {"type": "path"},
            "modules": {"type": "list", "elements": "str", "default": []},
        },
        required_if=[("state", "present", ["golden"])],
        supports_check_mode=True,
    )
    try:
        result = apply(module.params, not module.check_mode)
    except LabError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
