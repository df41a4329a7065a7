# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One rollout at a time per fleet: a lease in kpatch_home with owner and expiry, kept up by every step of the rollout.

The lease of a controller that was killed is taken over at once on the same machine, and after its expiry on another.
"""

from __future__ import annotations

import fcntl
import getpass
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from ansible_collections.kpatch.fleet.plugins.plugin_utils.errors import FleetError
from ansible_collections.kpatch.fleet.plugins.plugin_utils.publish import publish

FILE = "lease.json"
_SECONDS = 900


@dataclass(frozen=True)
class Lease:
    """Who has the fleet: a process on a machine, for a rollout, until it expires."""

    rollout: str
    user: str
    machine: str
    pid: int
    started: str
    expires: str

    def is_over(self, now: datetime) -> bool:
        """Whether its owner is known to be gone, or has not been heard of for too long."""
        if self.machine == _machine():
            return _started(self.pid) != self.started
        return datetime.fromisoformat(self.expires) <= now

    def owner(self) -> str:
        """For people."""
        return f"{self.user} on {self.machine.split('/')[0]} (process {self.pid}), rollout {self.rollout}"


def take(home: Path, rollout: str, soak: float, now: datetime | None = None) -> None:
    """Take the lease for this run of ansible-playbook, or keep it up; FleetError if another run has it."""
    now = now or datetime.now(timezone.utc)
    pid = _controller()
    until = (now + timedelta(seconds=_SECONDS + soak)).isoformat(timespec="seconds")
    mine = Lease(rollout, getpass.getuser(), _machine(), pid, _started(pid), until)
    with _locked(home):
        held = read(home)
        if held and not _same(held, mine) and not held.is_over(now):
            raise FleetError(
                f"{home / FILE}: another rollout is under way: {held.owner()}, until {held.expires} unless it goes on; "
                "wait for its end, or end it"
            )
        publish(home / FILE, json.dumps(asdict(mine), indent=2, sort_keys=True) + "\n")


def keep_up(home: Path, rollout: str, soak: float, now: datetime | None = None) -> None:
    """Put the expiry of this run's lease off once half of its time before a soak is over: a batch may take longer."""
    now = now or datetime.now(timezone.utc)
    held = read(home)
    soon = now + timedelta(seconds=_SECONDS / 2 + soak)
    if held and not check(home, rollout) and datetime.fromisoformat(held.expires) < soon:
        take(home, rollout, soak, now)


def check(home: Path, rollout: str) -> str:
    """Why the rollout must not go on; empty if this run still has its lease."""
    held = read(home)
    pid = _controller()
    if held and (held.rollout, held.machine, held.pid, held.started) == (rollout, _machine(), pid, _started(pid)):
        return ""
    return f"the lease of the fleet is lost to {held.owner()}" if held else f"{home / FILE}: the lease is gone"


def release(home: Path, rollout: str) -> None:
    """Give the lease back, if this run has it."""
    with _locked(home):
        if not check(home, rollout):
            (home / FILE).unlink()


def read(home: Path) -> Lease | None:
    """The lease, or None if there is none; one that can't be understood is no lease that may be ignored."""
    path = home / FILE
    try:
        return Lease(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise FleetError(f"{path}: can't be read: {error}; remove it if no rollout is under way") from error


def _same(one: Lease, other: Lease) -> bool:
    return (one.machine, one.pid, one.started) == (other.machine, other.pid, other.started)


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(home / ".lease.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise FleetError(f"{home}: can't be written: {error.strerror}; mend that or set kpatch_home") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _controller() -> int:
    """ansible-playbook itself: tasks run in a child of it for each host."""
    return os.getppid()


def _machine() -> str:
    """This machine and boot: process numbers mean nothing after a reboot."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        boot = ""
    return f"{socket.gethostname()}/{boot}"


def _started(pid: int) -> str:
    """When a process was started, in ticks; empty if there is none. Tells it from a later one with its number."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    # The command, in parentheses, may hold blanks and parentheses itself; the 22nd field is the start.
    state, *fields = text.rpartition(")")[2].split()
    return "" if state in ("Z", "X") else fields[18]
