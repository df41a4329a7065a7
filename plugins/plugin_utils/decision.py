# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a rollout may go on: made of its plan and its ledger, and of nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ansible_collections.kpatch.fleet.plugins.plugin_utils import policy as policies
from ansible_collections.kpatch.fleet.plugins.plugin_utils.ledger import Ledger
from ansible_collections.kpatch.fleet.plugins.plugin_utils.states import FAULTS

_UNKNOWN = {
    "state": "unknown",
    "reason": "it was begun, and no outcome is written: it is still under way, or the controller was ended",
}


@dataclass(frozen=True)
class Decision:
    """Whether the rollout may go on: 'go', 'stop' or 'done'; *complete* tells if no host was left out."""

    verdict: str
    reasons: list[str] = field(default_factory=list)
    complete: bool = True


def decide(plan: dict[str, Any], ledger: Ledger) -> Decision:
    """The decision after what the ledger holds so far."""
    found = hosts(plan, ledger)
    reasons = [*ledger.damaged, *_over_budget(plan, found), *_undecided(found, ledger)]
    reasons = reasons or ledger.shut()
    if reasons:
        return Decision("stop", reasons, complete=False)
    left_out = [sentence(host) for host in found if host["state"] != plan["want"] and host["batch"] is None]
    if pending(plan, ledger):
        return Decision("go", left_out, not left_out)
    return Decision("done", left_out, not left_out)


def _over_budget(plan: dict[str, Any], found: list[dict[str, Any]]) -> list[str]:
    """The hosts that have failed, if they are more than may; no canary may, and none whose fate is unknown."""
    faults = [host for host in found if host["counts"] and host["judged"] in FAULTS]
    canaries = canary_batches(plan)
    policy = policies.of(plan)
    acting = sum(len(batch) for batch in plan["batches"])
    if len(faults) <= policies.allowed(policy, acting) and not any(
        host["batch"] in canaries or host["judged"] == "unknown" for host in faults
    ):
        return []
    return [sentence(host) for host in faults]


def _undecided(found: list[dict[str, Any]], ledger: Ledger) -> list[str]:
    """What is no failure but has to be looked at by a person before it goes on."""
    held = [sentence(host) for host in found if host["done"] and host["judged"] == "held"]
    verdict = ledger.verdict()
    if verdict and verdict["verdict"] != "pass":
        held += [reason for reason in verdict["reasons"] if verdict["verdict"] == "inconclusive"]
    return held


def canary_batches(plan: dict[str, Any]) -> set[int]:
    """The first batch, and each that holds the first host of a kernel release."""
    seen: set[Any] = set()
    canaries = {1}
    for number, batch in enumerate(plan["batches"], start=1):
        releases = {plan["hosts"][host].get("release") for host in batch}
        if not releases <= seen and policies.of(plan)["release_canaries"]:
            canaries.add(number)
        seen |= releases
    return canaries


def pending(plan: dict[str, Any], ledger: Ledger) -> list[int]:
    """The numbers of the batches in which a host has no outcome yet."""
    known = ledger.outcomes()
    return [number for number, batch in enumerate(plan["batches"], start=1) if any(host not in known for host in batch)]


def failures(plan: dict[str, Any], ledger: Ledger, require_all: bool) -> dict[str, str]:
    """Which hosts make the playbook fail, each with one sentence; with *require_all* also those that were left out."""
    blamed = {
        host["host"]: sentence(host)
        for host in hosts(plan, ledger)
        if (host["counts"] and host["judged"] in FAULTS)
        or (host["done"] and host["judged"] == "held")
        or (require_all and host["batch"] is None and host["state"] != plan["want"])
    }
    decided = decide(plan, ledger)
    if decided.verdict == "stop" and not blamed:
        # Nobody is to blame, and yet the playbook must not end well.
        blamed[_next_host(plan, ledger)] = decided.reasons[0]
    return blamed


def _next_host(plan: dict[str, Any], ledger: Ledger) -> str:
    known = ledger.outcomes()
    left = [str(host) for batch in plan["batches"] for host in batch if host not in known]
    return left[0] if left else str(next(iter(plan["hosts"])))


def hosts(plan: dict[str, Any], ledger: Ledger) -> list[dict[str, Any]]:
    """Each host with its last known state. *counts* is false for what was found before and is only left out.

    *judged* is the state that it is judged by: that before the rollout was taken back, if it was.
    """
    known, begun, undone = ledger.outcomes(), ledger.begun(), ledger.undone()
    batches = {host: number for number, batch in enumerate(plan["batches"], start=1) for host in batch}
    return [
        {
            "host": name,
            "kernel": planned.get("release", "?"),
            "batch": batches.get(name),
            "before": planned["state"],
            "state": outcome["state"],
            "reason": outcome["reason"],
            "judged": outcome.get("judged", outcome["state"]),
            "counts": name in known or name in begun or planned["state"] == "lost",
            "done": name in known,
        }
        for name, planned in plan["hosts"].items()
        for outcome in [_taken_back(known.get(name) or (_UNKNOWN if name in begun else planned), undone.get(name))]
    ]


def _taken_back(outcome: dict[str, Any], undone: dict[str, Any] | None) -> dict[str, Any]:
    if undone is None:
        return outcome
    was = f"it was {outcome['state']}" + (f": {outcome['reason']}" if outcome["reason"] else "")
    if undone["state"] in ("absent", "restored"):
        text = f"taken back{'' if undone['state'] == 'absent' else ' to what ran before'}; {was}"
    elif undone["state"] == outcome["state"]:
        # Lost before and lost still: its reason once is enough.
        text = f"{outcome['reason']}; it could not be taken back"
    else:
        text = f"it could not be taken back: {undone['reason']}; {was}"
    judged = "stuck" if undone["state"] == "stuck" else outcome["state"]
    return {"state": undone["state"], "reason": text, "judged": judged}


def sentence(host: dict[str, Any]) -> str:
    """The state of a host out of `hosts`, for people."""
    return f"{host['host']} is {host['state']}" + (f": {host['reason']}" if host["reason"] else "")
