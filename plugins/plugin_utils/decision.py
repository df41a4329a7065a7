# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a rollout may go on: made of its plan and its ledger, and of nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ansible_collections.kpatch.fleet.plugins.plugin_utils.ledger import Ledger
from ansible_collections.kpatch.fleet.plugins.plugin_utils.states import FAULTS

_UNKNOWN = {"state": "unknown", "reason": "it was begun, and no outcome was written: the controller was ended"}


@dataclass(frozen=True)
class Decision:
    """Whether the rollout may go on: 'go', 'stop' or 'done'; *complete* tells if no host was left out."""

    verdict: str
    reasons: list[str] = field(default_factory=list)
    complete: bool = True


def decide(plan: dict[str, Any], ledger: Ledger) -> Decision:
    """The decision after what the ledger holds so far."""
    found = hosts(plan, ledger)
    reasons = [*ledger.damaged, *(sentence(host) for host in found if host["state"] in FAULTS and host["counts"])]
    if reasons:
        return Decision("stop", reasons, complete=False)
    left_out = [sentence(host) for host in found if host["state"] != plan["want"] and host["batch"] is None]
    if pending(plan, ledger):
        return Decision("go", left_out, not left_out)
    return Decision("done", left_out, not left_out)


def pending(plan: dict[str, Any], ledger: Ledger) -> list[int]:
    """The numbers of the batches in which a host has no outcome yet."""
    known = ledger.outcomes()
    return [number for number, batch in enumerate(plan["batches"], start=1) if any(host not in known for host in batch)]


def failures(plan: dict[str, Any], ledger: Ledger, require_all: bool) -> dict[str, str]:
    """Which hosts make the playbook fail, each with one sentence; with *require_all* also those that were left out."""
    blamed = {
        host["host"]: sentence(host)
        for host in hosts(plan, ledger)
        if (host["counts"] and host["state"] in FAULTS)
        or (require_all and host["batch"] is None and host["state"] != plan["want"])
    }
    if ledger.damaged and not blamed and plan["hosts"]:
        blamed[next(iter(plan["hosts"]))] = ledger.damaged[0]
    return blamed


def hosts(plan: dict[str, Any], ledger: Ledger) -> list[dict[str, Any]]:
    """Each host with its last known state. *counts* is false for what was found before and is only left out."""
    known, begun = ledger.outcomes(), ledger.begun()
    batches = {host: number for number, batch in enumerate(plan["batches"], start=1) for host in batch}
    return [
        {
            "host": name,
            "kernel": planned.get("release", "?"),
            "batch": batches.get(name),
            "before": planned["state"],
            "state": outcome["state"],
            "reason": outcome["reason"],
            "counts": name in known or name in begun or planned["state"] == "lost",
            "done": name in known,
        }
        for name, planned in plan["hosts"].items()
        for outcome in [known.get(name) or (_UNKNOWN if name in begun else planned)]
    ]


def sentence(host: dict[str, Any]) -> str:
    """The state of a host out of `hosts`, for people."""
    return f"{host['host']} is {host['state']}" + (f": {host['reason']}" if host["reason"] else "")
