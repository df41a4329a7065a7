#!/usr/bin/python
# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads one host's kernel and live patches, and makes the operator's checks on it, in one round trip."""

from __future__ import annotations

DOCUMENTATION = r"""
module: probe
short_description: Read a host's live patches and make an operator's checks on it
version_added: 1.0.0
author:
  - kpatch.fleet contributors (@kpatch-fleet)
description:
  - Does what M(kpatch.fleet.host_info) does, and tells whether what the host is there for still works.
  - A check that fails is made again twice, with a pause, before it counts. One that can't be made is inconclusive.
  - Changes nothing, as long as the commands that it is given don't.
options:
  checks:
    description:
      - What is asked of the host. Each entry has exactly one of O(checks[].service), O(checks[].command),
        O(checks[].url), O(checks[].load) and O(checks[].errors).
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: What it is called in reports.
        type: str
        required: true
      service:
        description: A systemd unit that has to be active.
        type: str
      command:
        description: A command, as a line or as a list of words, that has to exit with 0. No shell is involved.
        type: raw
      url:
        description: A URL that has to answer, asked from the host itself.
        type: str
      status:
        description: The HTTP status that it has to answer with.
        type: int
        default: 200
      load:
        description: The highest load, over a minute, per processor.
        type: float
      errors:
        description: How many errors the kernel may have logged in the last minute. Needs root.
        type: float
      pattern:
        description: A regular expression; only errors that match it count.
        type: str
      timeout:
        description: How many seconds a command or a URL may take.
        type: float
        default: 10.0
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
  - module: kpatch.fleet.host_info
"""

EXAMPLES = r"""
- name: Is the web server well?
  kpatch.fleet.probe:
    checks:
      - {name: nginx, service: nginx.service}
      - {name: front page, url: "http://127.0.0.1/"}
      - {name: load, load: 4}
  register: probe
"""

RETURN = r"""
reason:
  description: Why the host could not be read. V(io-error) or V(not-permitted).
  type: str
  returned: on failure
host:
  description: As RV(kpatch.fleet.host_info#module:host).
  type: dict
  returned: success
checks:
  description: Each check with its RV(ignore:name), its RV(ignore:verdict) (V(pass), V(fail), V(inconclusive)) and what
    was seen, RV(ignore:detail).
  type: list
  elements: dict
  returned: success
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kpatch.fleet.plugins.module_utils.host import checks
from ansible_collections.kpatch.fleet.plugins.module_utils.host.errors import HostError
from ansible_collections.kpatch.fleet.plugins.module_utils.host.state import read_host

_CHECK = {
    "name": {"type": "str", "required": True},
    "service": {"type": "str"},
    "command": {"type": "raw"},
    "url": {"type": "str"},
    "status": {"type": "int", "default": 200},
    "load": {"type": "float"},
    "errors": {"type": "float"},
    "pattern": {"type": "str"},
    "timeout": {"type": "float", "default": 10.0},
}
_KINDS = ("service", "command", "url", "load", "errors")


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "checks": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": _CHECK,
                "mutually_exclusive": [_KINDS],
                "required_one_of": [_KINDS],
            },
            "root": {"type": "path", "default": "/"},
        },
        supports_check_mode=True,
        # An operator's command or URL may hold what is nobody else's business: it stays out of the host's journal.
        no_log=True,
    )
    root = Path(module.params["root"])
    try:
        host = read_host(root)
    except HostError as error:
        module.fail_json(msg=str(error), reason=error.reason)
    module.exit_json(changed=False, host=host, checks=checks.run(root, module.params["checks"]))


if __name__ == "__main__":
    main()
