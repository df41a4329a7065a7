#!/usr/bin/python
# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts the program on a host that writes its metrics."""

from __future__ import annotations

DOCUMENTATION = r"""
module: metrics
short_description: Put the program on a host that writes the metrics of its live patches
version_added: 1.0.0
author:
  - kpatch.fleet contributors (@kpatch-fleet)
description:
  - The program is one file of Python, standard library only. It reads the kernel as M(kpatch.fleet.host_info) does, and
    writes what it finds for the node exporter's textfile collector, by rename.
  - Role P(kpatch.fleet.metrics#role) also makes the timer that starts it.
options:
  path:
    description:
      - Where the program is put.
    type: path
    default: /usr/local/lib/kpatch.fleet/metrics
  state:
    description:
      - Whether it is there.
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
    details: It is a program in one zip file.
seealso:
  - module: kpatch.fleet.host_info
"""

EXAMPLES = r"""
- name: Put the program there
  kpatch.fleet.metrics:
"""

RETURN = r"""
path:
  description: Where the program is.
  type: str
  returned: success
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

# Imported by name, so that Ansible brings it to the host; the program is made of it there.
from ansible_collections.kpatch.fleet.plugins.module_utils.host import metrics as _metrics  # noqa: F401
from ansible_collections.kpatch.fleet.plugins.module_utils.host.files import bring
from ansible_collections.kpatch.fleet.plugins.module_utils.host.program import program


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "default": "/usr/local/lib/kpatch.fleet/metrics"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        supports_check_mode=True,
    )
    path = Path(module.params["path"])
    wanted = program("metrics") if module.params["state"] == "present" else None
    try:
        changed = bring(path, wanted, 0o755, module.check_mode)
    except OSError as error:
        module.fail_json(msg=f"{path}: can't be written: {error.strerror}; nothing was changed")
    module.exit_json(changed=changed, path=str(path))


if __name__ == "__main__":
    main()
