# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a plan is about one host, found without reading what is about all the others.

Each step of each host needs it, in a process of its own: to parse the whole plan for it would cost the square of the
number of hosts. It is made of plan.json whenever that, or what its hosts are compared with, is written.
"""

from __future__ import annotations

import json
import mmap
from pathlib import Path
from typing import Any

from ansible_collections.kpatch.fleet.plugins.plugin_utils.errors import FleetError
from ansible_collections.kpatch.fleet.plugins.plugin_utils.publish import publish

Plan = dict[str, Any]

FILE = "hosts.jsonl"
# What of a plan grows with the number of hosts.
_EACH = ("hosts", "batches")


def write(directory: Path, plan: Plan) -> None:
    """Keep *plan* for `load`: in the first line what is common, then a line for each host."""
    batches = {host: number for number, batch in enumerate(plan["batches"], start=1) for host in batch}
    common = {key: value for key, value in plan.items() if key not in _EACH}
    lines = [json.dumps(common)]
    lines += [
        _begin(name) + json.dumps({"batch": batches.get(name), "planned": planned})[1:]
        for name, planned in plan["hosts"].items()
    ]
    publish(directory / FILE, "\n".join(lines) + "\n")


def load(directory: Path, name: str) -> tuple[Plan, int]:
    """The plan in *directory* with *name* as its only host, and the number of the batch that this is in."""
    path = directory / FILE
    try:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as text:
            common = json.loads(text[: text.find(b"\n")])
            start = text.find(b"\n" + _begin(name).encode()) + 1
            host = json.loads(text[start : text.find(b"\n", start)]) if start else {"batch": None}
    except (OSError, ValueError) as error:
        raise FleetError(f"{path}: can't be read: {error}; start the playbook again") from error
    if host["batch"] is None:
        raise FleetError(f"{name} is in no batch of the plan {common['id']}: it was not there when the plan was made")
    return {**common, "hosts": {name: host["planned"]}}, host["batch"]


def _begin(name: str) -> str:
    """How the line of a host begins. A JSON text has no newline in it: no other line begins within one."""
    return f'{{"host": {json.dumps(name)}, '
