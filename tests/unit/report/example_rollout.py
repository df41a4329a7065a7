# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan and a ledger of any size, with everything that a report can tell, made without a fleet."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

from ansible_collections.kpatch.fleet.plugins.plugin_utils.ledger import Ledger

KERNELS = ("6.1.0-56-cloud-amd64", "6.12.117+deb12-cloud-amd64")
# What must come out as text in every format.
HOSTILE = '<img src=x onerror="document.title=1">|`=1+1` & \x1b[31m[a](javascript:b)'
_START = datetime(2026, 11, 23, 8, 0, tzinfo=timezone.utc)


def plan(hosts: int = 12, names: dict[int, str] | None = None) -> dict[str, Any]:
    """Batches of 1, 3 and the rest; *names* gives hosts other names, by number."""
    listed = [(names or {}).get(number, f"web{number:03}") for number in range(hosts)]
    return {
        "format": 1,
        "id": "example",
        "created": _START.isoformat(),
        "check": False,
        "want": "applied",
        "patches": ["tcp-fix", "vlan-fix"],
        "patch_set": [{"name": "tcp-fix", "cves": ["CVE-2026-11111"], "description": "A use after free."}],
        "core": True,
        "store": "/srv/store",
        "kernels": {release: kernel() for release in KERNELS},
        "hosts": {name: host(KERNELS[place % 2]) for place, name in enumerate(listed)},
        "batches": [listed[:1], listed[1:4], listed[4:]],
    }


def ledger(made: dict[str, Any], bad: dict[str, tuple[str, str]] | None = None, batches: int = 3) -> Ledger:
    """The ledger after so many *batches*; *bad* hosts came to a state and a reason of their own."""
    entries: list[dict[str, Any]] = [entry(0, "plan", id=made["id"], batches=len(made["batches"]))]
    second = 1.0
    for number, names in enumerate(made["batches"][:batches], start=1):
        entries.append(entry(second, "gate", batch=number, open=True, reasons=[]))
        for place, name in enumerate(names):
            entries.append(entry(second + place, "begin", batch=number, host=name))
            state, reason = (bad or {}).get(name, ("applied", ""))
            on = made["patches"] if state == "applied" else []
            seen = None if state == "lost" else runs(made["hosts"][name]["release"], 400000 + place * 90000, on)
            took = 3 + place * 7 % 5 + place / 10
            entries.append(
                entry(second + place + took, "host", batch=number, host=name, state=state, reason=reason, runs=seen)
            )
        second += len(names) + 12
    return Ledger(entries)


def shut(made: dict[str, Any], before: Ledger, batch: int, reason: str) -> Ledger:
    """*before*, and then a gate that was shut."""
    gate = entry(500, "gate", batch=batch, open=False, reasons=[reason])
    return Ledger([*before.entries, gate], before.damaged)


def entry(second: float, event: str, **values: Any) -> dict[str, Any]:
    """One of the ledger's, so many *second*s after the plan was made."""
    return {"time": (_START + timedelta(seconds=second)).isoformat(timespec="milliseconds"), "event": event, **values}


def kernel(signer: str = "") -> dict[str, Any]:
    """What a plan holds for a kernel release."""
    names = ("kpatch", "tcp-fix", "vlan-fix")
    consistency = {"leave": "patched_set", "switch": "kernel"}
    return {
        "artifacts": {name: artifact(name, signer) for name in names},
        "made": {name: {"build_id": "ab" * 20, "consistency": consistency} for name in names},
    }


def artifact(name: str, signer: str = "") -> dict[str, Any]:
    """What a plan holds of an artifact."""
    functions = [{"object": "vmlinux", "name": "tcp_close", "sympos": 0, "reason": "its code changed"}]
    return {
        "file": "kpatch.ko" if name == "kpatch" else f"kpatch_{name.replace('-', '_')}.ko",
        "input_sha256": "1" * 64,
        "sha256": hashlib.sha256(name.encode()).hexdigest(),
        "srcversion": "ABC",
        "build_id": build_id(name),
        "safety": [] if name == "kpatch" else ["What suffices: leave function, switch function."],
        "signer": signer,
        "functions": [] if name == "kpatch" else functions,
    }


def build_id(name: str) -> str:
    """Of the artifact *name*, whatever the kernel."""
    return hashlib.sha256(name.encode()).hexdigest()[:40]


def host(release: str) -> dict[str, Any]:
    """A host on which nothing is on, as a plan has it."""
    runs: dict[str, Any] = {"kernel": release, "taint": "", "core": None, "patches": [], "livepatches": []}
    return {
        "state": "absent",
        "reason": "",
        "release": release,
        "build_id": "ab" * 20,
        "boot_id": "1",
        "taint": [],
        "runs": runs,
    }


def runs(release: str, window: int, on: Sequence[str]) -> dict[str, Any]:
    """What a host runs once the patches *on* are on; *window* is in nanoseconds."""
    core = {"module": "kpatch", "srcversion": "ABC", "build_id": build_id("kpatch"), "abi": 1}
    patches = [
        {
            "module": f"kpatch_{name.replace('-', '_')}",
            "srcversion": "ABC",
            "build_id": build_id(name),
            "enabled": True,
            "window_ns": window,
        }
        for name in on
    ]
    return {"kernel": release, "taint": "OEK", "core": core, "patches": patches, "livepatches": []}
