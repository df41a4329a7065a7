#!/usr/bin/python
# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings to a host the unit that puts its patches on again at boot."""

from __future__ import annotations

DOCUMENTATION = r"""
module: boot
short_description: Put the patches on again at each boot
version_added: 1.0.0
author:
  - kpatch.fleet contributors (@kpatch-fleet)
description:
  - Brings a unit of systemd's and its program to the host. At each boot it loads what was on with that very kernel when
    the host went down, out of C(/var/lib/kpatch.fleet), after it has compared every artifact with its manifest.
  - Nothing is ever loaded into a kernel for which it was not built. A host that boots another one has no patches on.
  - Each try is counted on disk beforehand. After three boots in a row that the kernel did not live through, nothing is
    loaded any more until the next rollout.
  - C(kpatch.fleet=off) on the kernel's command line switches it off.
options:
  state:
    description:
      - Whether the unit is there and enabled.
    type: str
    choices: [present, absent]
    default: present
extends_documentation_fragment:
  - kpatch.fleet.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
"""

EXAMPLES = r"""
- name: Patches outlive a reboot
  kpatch.fleet.boot:
  become: true
"""

RETURN = r"""
unit:
  description: The name of the unit.
  type: str
  returned: always
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

# Imported by name, so that Ansible brings it to the host; the program is made of it there.
from ansible_collections.kpatch.fleet.plugins.module_utils.host import boot as _boot  # noqa: F401
from ansible_collections.kpatch.fleet.plugins.module_utils.host.files import bring
from ansible_collections.kpatch.fleet.plugins.module_utils.host.program import program

NAME = "kpatch-fleet-boot.service"
PROGRAM = Path("/usr/local/lib/kpatch.fleet/boot")
UNIT = Path("/etc/systemd/system") / NAME
WANTED = Path("/etc/systemd/system/multi-user.target.wants") / NAME
TEXT = f"""\
[Unit]
Description=Live patches that were on before the reboot
After=local-fs.target systemd-modules-load.service
ConditionKernelCommandLine=!{_boot.SWITCH}

[Service]
ExecStart={PROGRAM}

[Install]
WantedBy=multi-user.target
"""


def link(wanted: bool, check: bool) -> bool:
    """Whether the link that enables the unit had to be changed; what systemctl enable does."""
    there = WANTED.is_symlink()
    if there == wanted:
        return False
    if not check and wanted:
        WANTED.parent.mkdir(parents=True, exist_ok=True)
        WANTED.symlink_to(UNIT)
    elif not check:
        WANTED.unlink()
    return True


def main() -> None:
    module = AnsibleModule(
        argument_spec={"state": {"type": "str", "choices": ["present", "absent"], "default": "present"}},
        supports_check_mode=True,
    )
    present, check = module.params["state"] == "present", module.check_mode
    try:
        changed = [
            bring(PROGRAM, program("boot") if present else None, 0o755, check),
            bring(UNIT, TEXT.encode() if present else None, 0o644, check),
            link(present, check),
        ]
    except OSError as error:
        module.fail_json(msg=f"{error.filename}: can't be written: {error.strerror}; run again once that is mended")
    if any(changed) and not check:
        module.run_command(["systemctl", "daemon-reload"])
    module.exit_json(changed=any(changed), unit=NAME)


if __name__ == "__main__":
    main()
