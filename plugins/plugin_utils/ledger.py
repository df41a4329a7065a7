# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger: what happened to each host, written as it happens, one JSON object a line.

Ansible's forked workers append to it side by side, and the controller may be killed at any point: each entry
is one write under a lock, on disk before the task ends. What a kill tore is named by the reader, not skipped.
"""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible_collections.kpatch.fleet.plugins.plugin_utils.errors import FleetError


@dataclass(frozen=True)
class Ledger:
    """What could be read: the entries in order, and one sentence for each line that is no entry."""

    entries: list[dict[str, Any]] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)

    def outcomes(self) -> dict[str, dict[str, Any]]:
        """The last outcome of each host."""
        return self._last("host")

    def begun(self) -> set[str]:
        """The hosts that were to be changed."""
        return set(self._last("begin"))

    def undone(self) -> dict[str, dict[str, Any]]:
        """What each host has come to on which the rollout was taken back."""
        return self._last("undone")

    def verdict(self) -> dict[str, Any] | None:
        """The last verdict on a batch, unless the rollout was resumed since."""
        last = None
        for entry in self.entries:
            last = entry if entry["event"] == "verdict" else None if entry["event"] == "resume" else last
        return last

    def shut(self) -> list[str]:
        """Why the last gate was shut, unless the rollout was resumed since; empty if it was open."""
        reasons: list[str] = []
        for entry in self.entries:
            if entry["event"] == "gate":
                reasons = [] if entry.get("open") else entry["reasons"]
            elif entry["event"] == "resume":
                reasons = []
        return reasons

    def looks(self) -> dict[str, list[dict[str, Any]]]:
        """The looks at each host during its last soak, in order."""
        found: dict[str, list[dict[str, Any]]] = {}
        for entry in self.entries:
            if entry["event"] == "begin":
                found[entry["host"]] = []
            elif entry["event"] == "look":
                found.setdefault(entry["host"], []).append(entry)
        return found

    def vanished(self) -> list[str]:
        """The hosts of the plan that were not in the inventory when the rollout was last resumed."""
        resumed = [entry for entry in self.entries if entry["event"] == "resume"]
        return list(resumed[-1]["vanished"]) if resumed else []

    def _last(self, event: str) -> dict[str, dict[str, Any]]:
        """The last entry of its kind for each host. A host that a resumed rollout takes up again begins anew."""
        found: dict[str, dict[str, Any]] = {}
        for entry in self.entries:
            if entry["event"] == event:
                found[entry["host"]] = entry
            elif entry["event"] == "resume":
                for host in entry["hosts"]:
                    found.pop(host, None)
        return found


def append(path: Path, event: str, **values: Any) -> dict[str, Any]:
    """Add one entry, safe on disk before this returns; FleetError if it could not be written whole."""
    entry = {"time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"), "event": event, **values}
    line = json.dumps(entry, sort_keys=True).encode() + b"\n"
    try:
        fresh = not path.exists()
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            _write(descriptor, line if _ends_with_newline(descriptor) else b"\n" + line)
        finally:
            os.close(descriptor)
        if fresh:
            _sync_directory(path.parent)
    except OSError as error:
        raise FleetError(
            f"{path}: the ledger can't be written: {error.strerror}; mend that, then start the playbook again"
        ) from error
    return entry


def read(path: Path) -> Ledger:
    """The ledger at *path*; one that does not exist yet is empty."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Ledger()
    except OSError as error:
        raise FleetError(f"{path}: the ledger can't be read: {error.strerror}") from error
    ledger = Ledger()
    for number, line in enumerate(data.split(b"\n"), start=1):
        if line:
            _take(ledger, f"{path}, line {number}", line)
    return ledger


def _take(ledger: Ledger, where: str, line: bytes) -> None:
    try:
        entry = json.loads(line)
    except ValueError:
        ledger.damaged.append(f"{where}: not JSON: it was torn or changed")
        return
    if _is_entry(entry):
        ledger.entries.append(entry)
    else:
        ledger.damaged.append(f"{where}: not an entry of a ledger")


# What an entry has to hold to be read at all: texts, and lists.
_TEXTS = {
    "host": ("host", "state", "reason"),
    "undone": ("host", "state", "reason"),
    "begin": ("host",),
    "look": ("host", "state", "reason"),
    "verdict": ("verdict",),
}
_LISTS = {"resume": ("hosts", "vanished"), "verdict": ("reasons",), "gate": ("reasons",)}


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("event"), str):
        return False
    texts, lists = _TEXTS.get(entry["event"], ()), _LISTS.get(entry["event"], ())
    return all(isinstance(entry.get(key), str) for key in texts) and all(
        isinstance(entry.get(key), list) for key in lists
    )


def _ends_with_newline(descriptor: int) -> bool:
    """False after a writer that was killed, or ran out of disk, within its line."""
    size = os.fstat(descriptor).st_size
    return size == 0 or os.pread(descriptor, 1, size - 1) == b"\n"


def _write(descriptor: int, data: bytes) -> None:
    """All of *data*, on disk. A short write means a full disk: the next one then says so."""
    while data:
        data = data[os.write(descriptor, data) :]
    os.fsync(descriptor)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
