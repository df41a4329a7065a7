# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rollout has come to: the decision and the report, made of the plan and the ledger and nothing else."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ansible_collections.kpatch.fleet.plugins.plugin_utils import decision as decisions
from ansible_collections.kpatch.fleet.plugins.plugin_utils import losses, table
from ansible_collections.kpatch.fleet.plugins.plugin_utils.ledger import Ledger
from ansible_collections.kpatch.fleet.plugins.plugin_utils.states import FAULTS

# Past this many hosts a terminal only gets those that need a look, and no more of them than this.
_SHORT = 20
# Below this many columns the table would be broken by the terminal.
_WIDE = 100
_HEAD = ("host", "kernel", "batch", "before", "state", "why")
_NEXT = {
    "lost": "bring the host back, or leave it out (--limit 'all:!{host}'), and start the playbook again",
    "apply-failed": "mend what the reason names; the playbook then goes on with the hosts that are left",
    "stuck": "end or wait for what the reason names (a forced patch: reboot), then start the rollback again",
    "transitioning": "wait for the switch to end, then start the playbook again",
    "kernel-changed": "run kpatch.fleet.build for the host's new kernel, then the rollout",
    "needs-build": "run kpatch.fleet.build for the host's kernel, then the rollout",
    "foreign-patch": "take the other live patch off first",
    "damaged": "look at its disk, remove the file that the reason names, then start the playbook again",
    "needs-check": "read its kernel log; a reboot clears the taint, and the live patches with it",
    "unknown": "start the playbook again: it looks at the host first",
}


def document(plan: dict[str, Any], ledger: Ledger) -> dict[str, Any]:
    """The report as data."""
    decided = decisions.decide(plan, ledger)
    hosts = [_settle(host, decided) for host in decisions.hosts(plan, ledger)]
    return {
        "format": 1,
        "id": plan["id"],
        "created": plan["created"],
        "updated": ledger.entries[-1]["time"] if ledger.entries else plan["created"],
        "check": plan["check"],
        "want": plan["want"],
        "patches": plan["patches"],
        "decision": {"verdict": decided.verdict, "reasons": decided.reasons, "complete": decided.complete},
        "summary": summary(plan, ledger),
        "counts": dict(Counter(host["state"] for host in worst_first({"hosts": hosts, "want": plan["want"]}))),
        "hosts": hosts,
        "batches": plan["batches"],
        "loses": losses.of(plan),
        "artifacts": {release: kernel["artifacts"] for release, kernel in plan["kernels"].items()},
        "next": [*_next(hosts), *_resume(plan, ledger, decided)],
    }


def summary(plan: dict[str, Any], ledger: Ledger) -> str:
    """The state of the rollout in one line."""
    decided = decisions.decide(plan, ledger)
    left = decisions.pending(plan, ledger)
    doing = {"applied": "rollout", "absent": "rollback"}[plan["want"]]
    if decided.verdict == "stop":
        where = f"before batch {left[0]} of {len(plan['batches'])}" if left else "after its last batch"
        return f"{doing} {plan['id']} stopped {where}"
    if decided.verdict == "go":
        return f"{doing} {plan['id']}: batch {left[0]} of {len(plan['batches'])} is next"
    if not plan["batches"]:
        return f"{doing} {plan['id']}: nothing to do" + ("" if decided.complete else ", but hosts are left out")
    return f"{doing} {plan['id']} is done" + ("" if decided.complete else ", but hosts are left out")


def console(report: dict[str, Any], width: int = 120) -> list[str]:
    """The report for a terminal; on a narrow one only what does not break."""
    hosts = worst_first(report)
    well = (report["want"], "held")
    shown = hosts if len(hosts) <= _SHORT else [host for host in hosts if host["state"] not in well][:_SHORT]
    lines = [title(report), "", *_table(shown, width)]
    if len(shown) < len(hosts):
        lines.append(f"... and {len(hosts) - len(shown)} more hosts: see the report")
    return [*lines, "", *losses.lines(report["loses"]), counts(report), *(f"next: {step}" for step in report["next"])]


def _table(hosts: list[dict[str, Any]], width: int) -> list[str]:
    if width >= _WIDE:
        return table.text(_HEAD, [_row(host) for host in hosts])
    reasons = [f"{host['host']}: {host['reason']}" for host in hosts if host["reason"]]
    return [
        *table.text(("host", "batch", "state"), [(_row(host)[0], *_row(host)[2::2][:2]) for host in hosts]),
        "",
        *reasons,
    ]


def _settle(host: dict[str, Any], decided: decisions.Decision) -> dict[str, Any]:
    """The host as the report tells it: once the rollout has stopped, what it did not come to is held."""
    kept = {key: value for key, value in host.items() if key not in ("counts", "judged")}
    if decided.verdict == "stop" and host["batch"] is not None and not host["done"] and host["state"] != "unknown":
        return {**kept, "state": "held", "reason": f"not touched; it was {host['before']}"}
    return kept


def _next(hosts: list[dict[str, Any]]) -> list[str]:
    steps = []
    for state, mend in _NEXT.items():
        names = [host["host"] for host in hosts if host["state"] == state]
        if names:
            steps.append(f"{', '.join(names[:5])}{' ...' if len(names) > 5 else ''}: " + mend.format(host=names[0]))
    return steps


def _resume(plan: dict[str, Any], ledger: Ledger, decided: decisions.Decision) -> list[str]:
    """How a plan that has batches left is taken up again."""
    if plan["check"] or decided.verdict == "done" or not decisions.pending(plan, ledger):
        return []
    playbook = {"applied": "rollout", "absent": "rollback"}[plan["want"]]
    return [
        f"to go on with this plan: ansible-playbook -i <inventory> kpatch.fleet.{playbook} -e kpatch_plan={plan['id']}"
    ]


def worst_first(report: dict[str, Any]) -> list[dict[str, Any]]:
    """The hosts of a report, those that need a look first, each kind in the order of the inventory."""
    order = {**{state: place for place, state in enumerate(FAULTS)}, "held": len(FAULTS) + 1, report["want"]: 99}
    return sorted(report["hosts"], key=lambda host: order.get(host["state"], len(FAULTS)))


def clock(time: str | None) -> str:
    """A time of the report, which is in UTC, to the second."""
    return time[:19].replace("T", " ") if time else "–"


def title(report: dict[str, Any]) -> str:
    """The summary, and whether anything was done at all."""
    return str(report["summary"]) + (" (check mode: nothing was changed)" if report["check"] else "")


def counts(report: dict[str, Any]) -> str:
    """How many hosts are in which state."""
    total = len(report["hosts"])
    states = ", ".join(f"{count} {state}" for state, count in report["counts"].items())
    return f"{total} host{'' if total == 1 else 's'}: {states}"


def _row(host: dict[str, Any]) -> tuple[object, ...]:
    batch = "-" if host["batch"] is None else host["batch"]
    return (host["host"], host["kernel"], batch, host["before"], host["state"], host["reason"])
