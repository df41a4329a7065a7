# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds and ends the QEMU processes that are the lab's own, and no others.

A process is a VM's if its command line is a QEMU's that was told to write this very pid file: a pid that
was left over from before a reboot, or that now belongs to somebody else, never matches.
"""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path

from ansible_collections.kpatch.fleet.plugins.module_utils.lab.base import LabError

_GRACE_MS = 10_000


def owned(pid_file: Path, proc: Path = Path("/proc")) -> int | None:
    """The pid of the live QEMU that *pid_file* names, or None."""
    try:
        pid = int(pid_file.read_text(encoding="ascii"))
        argv = (proc / str(pid) / "cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        # No pid file, not a number in it, or no such process: nothing of ours runs.
        return None
    is_ours = Path(os.fsdecode(argv[0])).name.startswith("qemu-system-") and os.fsencode(pid_file) in argv
    return pid if is_ours else None


def terminate(pid_file: Path) -> bool:
    """End the VM of *pid_file*, if it runs; return whether it did."""
    pid = owned(pid_file)
    if pid is None:
        return False
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        # Looked at again through the open handle, the pid can't have been given to another process since.
        if owned(pid_file) != pid:
            return False
        _end(handle, pid, pid_file)
    finally:
        os.close(handle)
    pid_file.unlink(missing_ok=True)
    return True


def _end(handle: int, pid: int, pid_file: Path) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            signal.pidfd_send_signal(handle, number)
        except ProcessLookupError:
            return
        if _ended(handle, _GRACE_MS):
            return
    raise LabError(f"the VM of {pid_file} (pid {pid}) does not end, not even by SIGKILL; look at it by 'ps'")


def _ended(handle: int, timeout_ms: int) -> bool:
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(timeout_ms))
