# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is in the way of a switch of the kernel's own livepatch: the tasks that have yet to go over, and where."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.kpatch.fleet.plugins.module_utils.host.errors import HostError
from ansible_collections.kpatch.fleet.plugins.module_utils.host.files import read_int, read_text

_SHOWN = 5
# Of a stack, the innermost calls: where the task waits, and for whom.
_CALLS = 4


def stuck_tasks(root: Path, enabling: bool) -> str:
    """The tasks whose patch_state is still that of before, in words; empty if the kernel names none."""
    before = 0 if enabling else 1
    found = []
    for task in sorted(root.glob("proc/[0-9]*/task/[0-9]*"), key=lambda path: int(path.name)):
        if read_int(task / "patch_state") == before:
            found.append(task)
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return f"not yet switched: {', '.join(map(_describe, found[:_SHOWN]))}{more}" if found else ""


def _describe(task: Path) -> str:
    """A task's name, number, and the functions that it is in, the innermost first, as far as the kernel tells."""
    try:
        stack = (read_text(task / "stack") or "").splitlines()
    except HostError:
        stack = []  # only root is told, and not by every kernel
    calls = [line.split()[-1].partition("+")[0] for line in stack if line.strip()][:_CALLS]
    where = f" in {' < '.join(calls)}" if calls else ""
    return f"{read_text(task / 'comm') or '?'} (pid {task.name}){where}"
