# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verdict on a batch after its soak: pass, fail, or inconclusive, which holds the rollout and takes nothing back.

What the kernel says is believed at once. A check that an operator wrote is believed after two looks in a row: one look
may have met with the second or two in which I/O and network stand still while a kernel switches.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ansible_collections.kpatch.fleet.plugins.plugin_utils import outcome, states
from ansible_collections.kpatch.fleet.plugins.plugin_utils.ledger import Ledger
from ansible_collections.kpatch.fleet.plugins.plugin_utils.states import FAULTS, Verdict

Plan = dict[str, Any]


@dataclass(frozen=True)
class Judgement:
    """On a whole batch: 'pass', 'fail' or 'inconclusive', why, and the hosts whose outcome is another one now."""

    verdict: str
    reasons: list[str] = field(default_factory=list)
    hosts: dict[str, Verdict] = field(default_factory=dict)


def look(plan: Plan, name: str, seen: Any) -> tuple[Verdict, dict[str, str]]:
    """What one look says of a host that was brought to what is wanted, and the result of each check by its name."""
    verdict = outcome.worse(plan, name, seen) or Verdict(plan["want"])
    return verdict, {one["name"]: one["verdict"] for one in checks(seen)}


def checks(seen: Any) -> list[dict[str, Any]]:
    """The results of the operator's checks that came with a look."""
    found = seen.get("checks") if isinstance(seen, dict) and not states.lost(seen) else None
    return found if isinstance(found, list) else []


def lines(name: str, when: str, kernel: Verdict | None, seen: Any) -> list[str]:
    """Each check of a look at the host *name* with its verdict; the first one is what its *kernel* says."""
    said = f"fail ({kernel.state}: {kernel.reason})" if kernel else "pass"
    told = {"kernel": said, **{one["name"]: f"{one['verdict']} ({one['detail']})" for one in checks(seen)}}
    return [f"{name}: check {when}: {check}: {verdict}" for check, verdict in told.items()]


def judge(plan: Plan, ledger: Ledger, batch: int) -> Judgement:
    """The verdict on *batch*, counted from 1, out of the looks during its soak."""
    outcomes, looks = ledger.outcomes(), ledger.looks()
    failed: dict[str, Verdict] = {}
    reasons, unsure = [], []
    for name in plan["batches"][batch - 1]:
        found = outcomes.get(name)
        if found is None or found["state"] in FAULTS:
            reasons.append(f"{name} is {found['state'] if found else 'without an outcome'}")
        elif found["state"] == plan["want"]:
            verdict, doubts = _host(plan, looks.get(name, []))
            unsure += [f"{name}: {doubt}" for doubt in doubts]
            if verdict:
                failed[name] = verdict
                reasons.append(f"{name} is {verdict.state}: {verdict.reason}")
    if reasons:
        return Judgement("fail", reasons, failed)
    return Judgement("inconclusive" if unsure else "pass", unsure)


def _host(plan: Plan, looks: list[dict[str, Any]]) -> tuple[Verdict | None, list[str]]:
    """What is wrong with a host, if something is, and what can't be told."""
    for one in looks:
        if one["state"] != plan["want"]:
            return Verdict(one["state"], f"after it had gone well: {one['reason']}"), []
    doubts = []
    for name in dict.fromkeys(name for one in looks for name in one.get("checks", {})):
        verdict = trend([one.get("checks", {}).get(name, "inconclusive") for one in looks])
        if verdict == "fail":
            return Verdict("needs-check", f"{name} fails, look after look"), []
        if verdict == "inconclusive":
            doubts.append(f"{name} can't be judged: it was {', '.join(_words(looks, name))}")
    return None, doubts


def trend(verdicts: list[str]) -> str:
    """The verdict on one check out of all looks: one bad look that is followed by good ones is a blip."""
    if verdicts[-2:].count("fail") == min(2, len(verdicts)):
        return "fail"
    bad = sum(verdict != "pass" for verdict in verdicts)
    return "pass" if bad == 0 or (bad == 1 and verdicts[-1] == "pass") else "inconclusive"


def _words(looks: list[dict[str, Any]], name: str) -> list[str]:
    return [one.get("checks", {}).get(name, "missing") for one in looks]
