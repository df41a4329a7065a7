# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Forty hosts on three kernels; a host is lost in the third batch, and that batch is taken back."""

from __future__ import annotations

import random
from typing import Any

import example_rollout as example
from ansible_collections.kpatch.fleet.plugins.plugin_utils.ledger import Ledger

KERNELS = ("6.1.0-56-cloud-amd64", "6.12.117+deb12-cloud-amd64", "5.10.0-40-cloud-amd64")
LOST = "web14"
SIGNER = "SHA256:pV3mCkLrZ1k0Tq9GqfVjH1u6Yl0h1eQm0aVdC7b2p9E"


def plan(web22: str = "web22") -> dict[str, Any]:
    """Forty hosts, one of them of a given name; two are left out: patched before, and without an artifact."""
    kernels = {f"web{number:02}": KERNELS[0] for number in range(1, 25)}
    kernels = {web22 if name == "web22" else name: release for name, release in kernels.items()}
    kernels |= {f"db{number:02}": KERNELS[1] for number in range(1, 9)}
    kernels |= {f"edge{number:02}": KERNELS[2] for number in range(1, 9)}
    made = example.plan(0)
    hosts = {name: example.host(release) for name, release in kernels.items()}
    hosts["web24"].update(state="applied", runs=example.runs(KERNELS[0], 380000, ("tcp-fix", "vlan-fix")))
    why = f"the store's vlan-fix is for another build of {KERNELS[2]}"
    hosts["edge08"].update(state="needs-build", reason=why)
    acting = [name for name, found in hosts.items() if found["state"] == "absent"]
    canaries = ["web01", "db01", "edge01"]
    rest = [name for name in acting if name not in canaries]
    mixed = [name for place in range(3) for name in rest[place::3]]
    return {
        **made,
        "id": "20261126T051500.104211Z",
        "kernels": {release: example.kernel(SIGNER) for release in KERNELS},
        "hosts": hosts,
        "batches": [canaries[:1], canaries[1:], mixed[:12], mixed[12:]],
        "patch_set": [
            {
                "name": "tcp-fix",
                "cves": ["CVE-2026-12345"],
                "description": "A use after free when a socket is closed while a segment is being coalesced.",
            },
            {"name": "vlan-fix", "cves": ["CVE-2026-23456", "CVE-2026-23457"], "description": ""},
        ],
    }


def ledger(made: dict[str, Any]) -> Ledger:
    """Two good batches, then LOST does not come back, its batch is taken back, and the last gate stays shut."""
    chance = random.Random(6)
    entries = [example.entry(0, "plan", id=made["id"], batches=len(made["batches"]))]
    second = 1.5
    for number, names in enumerate(made["batches"][:3], start=1):
        entries.append(example.entry(second, "gate", batch=number, open=True, reasons=[]))
        ends = [_host(made, entries, name, number, second + place * 0.4, chance) for place, name in enumerate(names)]
        second = _soak(made, entries, number, max(ends)) + 1
    reason = f"{LOST} is lost: ssh: connect to host {LOST} port 22: Connection timed out"
    lost = ssh_lost()
    entries.append(example.entry(second, "verdict", batch=3, verdict="fail", reasons=[reason]))
    entries.append(example.entry(second, "undo", batch=3, scope="batch", hosts=made["batches"][2]))
    for place, name in enumerate(made["batches"][2]):
        off = {"state": "lost", "reason": lost, "runs": None} if name == LOST else _bare(made, name)
        entries.append(example.entry(second + 3 + place * 0.5, "undone", host=name, batch=3, **off))
    entries.append(example.entry(second + 14, "gate", batch=4, open=False, reasons=[reason]))
    return Ledger(sorted(entries, key=lambda one: str(one["time"])))


def ssh_lost() -> str:
    """What ssh says of the lost host."""
    return f"ssh: connect to host {LOST} port 22: Connection timed out"


def _host(made: dict[str, Any], entries: list[Any], name: str, batch: int, at: float, chance: random.Random) -> float:
    release = made["hosts"][name]["release"]
    entries.append(example.entry(at, "begin", host=name, batch=batch, order=f"{made['id']} {name} 1"))
    took = chance.uniform(2.4, 4.2) + (1.6 if release == KERNELS[1] else 0)
    window = int(chance.uniform(280000, 510000)) * (4 if chance.random() < 0.15 else 1)
    if name == LOST:
        entries.append(example.entry(at + took, "failed", host=name, batch=batch, failure=ssh_lost()))
        entries.append(
            example.entry(at + 68, "host", host=name, batch=batch, state="lost", reason=ssh_lost(), runs=None)
        )
        return at + 68
    runs = example.runs(release, window, made["patches"])
    entries.append(example.entry(at + took, "host", host=name, batch=batch, state="applied", reason="", runs=runs))
    return at + took


def _soak(made: dict[str, Any], entries: list[Any], batch: int, since: float) -> float:
    for look in (1, 2):
        for name in made["batches"][batch - 1]:
            if name != LOST:
                checks = {"nginx.service": "pass"}
                entries.append(
                    example.entry(
                        since + 15 * look, "look", host=name, batch=batch, state="applied", reason="", checks=checks
                    )
                )
    if batch < 3:
        entries.append(example.entry(since + 31, "verdict", batch=batch, verdict="pass", reasons=[]))
    return since + 31


def _bare(made: dict[str, Any], name: str) -> dict[str, Any]:
    bare = {
        "kernel": made["hosts"][name]["release"],
        "taint": "OEK",
        "core": None,
        "patches": [],
        "livepatches": [],
    }
    return {"state": "absent", "reason": "", "runs": bare}
