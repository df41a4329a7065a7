#!/usr/bin/python
# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Boots one virtual machine per kernel and saves it while it runs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: lab_golden
short_description: Boot a virtual machine once and save it while it runs
version_added: 1.0.0
description:
  - Boots one kernel of a lab image, waits until ssh answers, and saves disk and memory.
  - M(kpatch.fleet.lab_vm) wakes up any number of machines from what was saved, in seconds.
  - What was saved is named by what it was made of. If it is there, it is used again.
options:
  cache:
    description: Directory for saved machines; it is made if it isn't there.
    type: path
    required: true
  image:
    description: The image's directory, as M(kpatch.fleet.lab_image) returned it.
    type: path
    required: true
  kernel:
    description: Series of the kernel to boot; the image must have it, unless there is a O(vmlinuz).
    type: str
    required: true
  vmlinuz:
    description:
      - A kernel (bzImage) to boot instead of one of the image's. O(kernel) is then just a name for it.
      - It must have built in virtio's PCI, block and network drivers and ext4, since there is no initial file system.
    type: path
  append:
    description: What to append to the kernel's command line.
    type: str
    default: ""
  memory:
    description: Memory of the machine in MB.
    type: int
    default: 384
  cpus:
    description: Number of the machine's processors.
    type: int
    default: 1
  accel:
    description: QEMU's accelerator. V(auto) takes V(kvm) if a kernel was seen starting under it, else V(tcg).
    type: str
    choices: [auto, kvm, tcg]
    default: auto
attributes:
  check_mode:
    support: full
    description: Says whether a machine would be booted and saved.
  diff_mode:
    support: none
    description: A saved machine is not shown as a difference.
requirements:
  - qemu-system-x86, qemu-utils and openssh-client on the machine that carries the lab
author:
  - kpatch.fleet contributors (@kpatch-fleet)
"""

EXAMPLES = r"""
- name: Save a running 6.12
  kpatch.fleet.lab_golden:
    cache: /var/cache/kpatch.fleet
    image: "{{ image.path }}"
    kernel: "6.12"
"""

RETURN = r"""
path:
  description: Directory of what was saved.
  returned: success
  type: str
release:
  description: Release of the kernel that runs in it.
  returned: success
  type: str
  sample: 6.1.0-56-cloud-amd64
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kpatch.fleet.plugins.module_utils.lab import golden
from ansible_collections.kpatch.fleet.plugins.module_utils.lab.base import LabError
from ansible_collections.kpatch.fleet.plugins.module_utils.lab.image import open_image


def main() -> None:
    """Module entry point."""
    module = AnsibleModule(
        argument_spec={
            "cache": {"type": "path", "required": True},
            "image": {"type": "path", "required": True},
            "kernel": {"type": "str", "required": True},
            "vmlinuz": {"type": "path"},
            "append": {"type": "str", "default": ""},
            "memory": {"type": "int", "default": 384},
            "cpus": {"type": "int", "default": 1},
            "accel": {"type": "str", "choices": ["auto", "kvm", "tcg"], "default": "auto"},
        },
        supports_check_mode=True,
    )
    asked = module.params
    vmlinuz = Path(asked["vmlinuz"]) if asked["vmlinuz"] else None
    wanted = golden.Wanted(asked["kernel"], asked["append"], asked["accel"], asked["memory"], asked["cpus"], vmlinuz)
    try:
        image = open_image(Path(asked["image"]))
        saved, changed = golden.ensure(Path(asked["cache"]), image, wanted, build=not module.check_mode)
    except LabError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=changed, path=str(saved.path), release=saved.release)


if __name__ == "__main__":
    main()
