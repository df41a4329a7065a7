# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes up a frozen plan again: what is left of it, and what has become of its hosts meanwhile."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ansible_collections.kpatch.fleet.plugins.plugin_utils import host_plan
from ansible_collections.kpatch.fleet.plugins.plugin_utils import plan as plans
from ansible_collections.kpatch.fleet.plugins.plugin_utils.errors import FleetError
from ansible_collections.kpatch.fleet.plugins.plugin_utils.ledger import Ledger
from ansible_collections.kpatch.fleet.plugins.plugin_utils.publish import publish
from ansible_collections.kpatch.fleet.plugins.plugin_utils.states import FAULTS

Plan = dict[str, Any]
# What of a host is compared with when it was found anew; its kernel stays the plan's.
_FRESH = ("state", "reason", "boot_id", "taint", "counters", "obsolete", "again", "loses", "runs")


@dataclass(frozen=True)
class Rest:
    """The *batches* that are left; hosts that *appeared* since are not taken, those that *vanished* are told."""

    batches: list[list[str]]
    appeared: list[str]
    vanished: list[str]

    @property
    def hosts(self) -> list[str]:
        return [host for batch in self.batches for host in batch]


def find(home: Path, what: str) -> Path:
    """The directory of the rollout that *what* names: its id, 'newest', its directory or its plan.json."""
    path = Path(what).expanduser()
    if "/" in what:
        return path.parent if path.name == plans.FILE else path
    return plans.find(home, None if what == "newest" else what)


def agree(plan: Plan, want: str, names: list[str]) -> None:
    """FleetError unless *plan* is one for what is asked for now."""
    if plan["check"]:
        raise FleetError(f"the plan {plan['id']} was made in check mode: make one without --check")
    if plan["want"] != want:
        raise FleetError(f"the plan {plan['id']} is for the state {plan['want']}, not {want}: start the other playbook")
    if plan["patches"] != names:
        raise FleetError(
            f"the plan {plan['id']} is for {', '.join(plan['patches'])}, but kpatch_patches names {', '.join(names)}: "
            "make a new plan"
        )


def order(given: plans.Order, plan: Plan) -> plans.Order:
    """What is asked for now, and what stays or goes as *plan* was told when it was made."""
    keep, drop = ([*plan.get(key, []), *getattr(given, key)] for key in ("keep", "drop"))
    return replace(given, keep=keep, drop=drop)


def rest(plan: Plan, ledger: Ledger, looks: dict[str, Any]) -> Rest:
    """What is left of *plan*: hosts without the wanted outcome, and batches that were not watched to their end."""
    outcomes, undone = ledger.outcomes(), ledger.undone()
    passed = {entry["batch"] for entry in ledger.entries if entry["event"] == "verdict" and entry["verdict"] == "pass"}
    batches = []
    for number, batch in enumerate(plan["batches"], start=1):
        done = {host for host in batch if outcomes.get(host, {}).get("state") == plan["want"] and host not in undone}
        left = [host for host in batch if host in looks and (host not in done or number not in passed)]
        batches += [left] if left else []
    planned = set(plan["hosts"])
    vanished = [host for batch in plan["batches"] for host in batch if host not in looks]
    return Rest(batches, [host for host in looks if host not in planned], vanished)


def keep_baseline(path: Path, plan: Plan, fresh: dict[str, Any], left: Rest) -> None:
    """Write down what the hosts that are left were found as now, which is what they are compared with from now on."""
    batched = {host for batch in plan["batches"] for host in batch}
    found = {
        name: {key: host[key] for key in _FRESH if key in host}
        for name, host in fresh.items()
        if name in plan["hosts"] and (name in left.hosts or name not in batched) and host["state"] != "lost"
    }
    publish(path / plans.BASELINE, json.dumps({**_earlier(path), **found}, indent=2, sort_keys=True) + "\n")
    host_plan.write(path, plans.load(path))


def copy(path: Path, plan: Plan, target: Path) -> Path:
    """The rollout in *path*, for check mode, which must not write into its ledger."""
    plans.write(target, {**plan, "check": True})
    shutil.copy(path / plans.LEDGER, target)
    return target


def lines(plan: Plan, left: Rest) -> list[str]:
    """What the terminal shows."""
    told = [f"taking up the plan {plan['id']} of {plan['created']} again: {len(left.hosts)} hosts are left"]
    if left.appeared:
        told.append(f"not in the plan, and not touched: {', '.join(left.appeared)}; a new plan takes them in")
    if left.vanished:
        told.append(f"in the plan, but not among the hosts of this run: {', '.join(left.vanished)}")
    return told


def failed(plan: Plan, ledger: Ledger) -> list[str]:
    """The hosts that went wrong in a rollout: what a retry takes up."""
    outcomes, begun = ledger.outcomes(), ledger.begun()
    return [
        name
        for name, planned in plan["hosts"].items()
        if outcomes.get(name, {"state": "unknown"} if name in begun else planned)["state"] in (*FAULTS, "held")
    ]


def only(looks: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """The looks at the hosts that a retry is about; FleetError if there is none."""
    chosen = {name: look for name, look in looks.items() if name in names}
    if not chosen:
        told = ", ".join(names) or "none did"
        raise FleetError(f"kpatch_retry: none of the hosts of this run has failed there (it was: {told})")
    return chosen


def _earlier(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((path / plans.BASELINE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found
