# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rollout has come to: the decision and the report, made of the plan and the ledger and nothing else."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.kpatch.fleet.plugins.plugin_utils import table
from ansible_collections.kpatch.fleet.plugins.plugin_utils.ledger import Ledger
from ansible_collections.kpatch.fleet.plugins.plugin_utils.states import FAULTS

# Past this many hosts a terminal only gets those that need a look.
_SHORT = 40
_UNKNOWN = {"state": "unknown", "reason": "it was begun, and no outcome was written: the controller was ended"}
_HEAD = ("host", "kernel", "batch", "before", "state", "why")
_NEXT = {
    "lost": "bring the host back, or leave it out (--limit 'all:!{host}'), and start the playbook again",
    "apply-failed": "mend what the reason names; the playbook then goes on with the hosts that are left",
    "stuck": "end or wait for what the reason names, then start the rollback again",
    "transitioning": "wait for the switch to end, then start the playbook again",
    "kernel-changed": "run kpatch.fleet.build for the host's new kernel, then the rollout",
    "needs-build": "run kpatch.fleet.build for the host's kernel, then the rollout",
    "foreign-patch": "take the other live patch off first",
    "needs-check": "read its kernel log; a reboot clears the taint, and the live patches with it",
    "unknown": "start the playbook again: it looks at the host first",
}


@dataclass(frozen=True)
class Decision:
    """Whether the rollout may go on: 'go', 'stop' or 'done'; *complete* tells if no host was left out."""

    verdict: str
    reasons: list[str] = field(default_factory=list)
    complete: bool = True


def decide(plan: dict[str, Any], ledger: Ledger) -> Decision:
    """The decision after what the ledger holds so far."""
    hosts = _hosts(plan, ledger)
    reasons = [*ledger.damaged, *(_sentence(host) for host in hosts if host["state"] in FAULTS and host["counts"])]
    if reasons:
        return Decision("stop", reasons, complete=False)
    left_out = [_sentence(host) for host in hosts if host["state"] != plan["want"] and host["batch"] is None]
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
        host["host"]: _sentence(host)
        for host in _hosts(plan, ledger)
        if (host["counts"] and host["state"] in FAULTS)
        or (require_all and host["batch"] is None and host["state"] != plan["want"])
    }
    if ledger.damaged and not blamed and plan["hosts"]:
        blamed[next(iter(plan["hosts"]))] = ledger.damaged[0]
    return blamed


def document(plan: dict[str, Any], ledger: Ledger) -> dict[str, Any]:
    """The report as data."""
    decision = decide(plan, ledger)
    hosts = [_settle(host, decision) for host in _hosts(plan, ledger)]
    return {
        "format": 1,
        "id": plan["id"],
        "created": plan["created"],
        "updated": ledger.entries[-1]["time"] if ledger.entries else plan["created"],
        "check": plan["check"],
        "want": plan["want"],
        "patches": plan["patches"],
        "decision": {"verdict": decision.verdict, "reasons": decision.reasons, "complete": decision.complete},
        "summary": summary(plan, ledger),
        "counts": dict(Counter(host["state"] for host in hosts)),
        "hosts": hosts,
        "batches": plan["batches"],
        "artifacts": {release: kernel["artifacts"] for release, kernel in plan["kernels"].items()},
        "next": _next(hosts),
    }


def summary(plan: dict[str, Any], ledger: Ledger) -> str:
    """The state of the rollout in one line."""
    decision = decide(plan, ledger)
    left = pending(plan, ledger)
    doing = {"applied": "rollout", "absent": "rollback"}[plan["want"]]
    if decision.verdict == "stop":
        where = f"before batch {left[0]} of {len(plan['batches'])}" if left else "after its last batch"
        return f"{doing} {plan['id']} stopped {where}"
    if decision.verdict == "go":
        return f"{doing} {plan['id']}: batch {left[0]} of {len(plan['batches'])} is next"
    if not plan["batches"]:
        return f"{doing} {plan['id']}: nothing to do" + ("" if decision.complete else ", but hosts are left out")
    return f"{doing} {plan['id']} is done" + ("" if decision.complete else ", but hosts are left out")


def console(report: dict[str, Any]) -> list[str]:
    """The report for a terminal."""
    hosts = report["hosts"]
    shown = hosts if len(hosts) <= _SHORT else [host for host in hosts if host["state"] != report["want"]][:_SHORT]
    lines = [_title(report), "", *table.text(_HEAD, [_row(host) for host in shown])]
    if len(shown) < len(hosts):
        lines.append(f"… and {len(hosts) - len(shown)} more hosts: see the report")
    return [*lines, "", _counts(report), *(f"next: {step}" for step in report["next"])]


def markdown(report: dict[str, Any]) -> str:
    """The report as a Markdown page."""
    lines = [f"# {_title(report)}", "", f"Patches: {', '.join(report['patches'])}. Planned {report['created']},"]
    lines += [f"last entry {report['updated']}.", "", _counts(report), "", "## Hosts", ""]
    lines += table.markdown(_HEAD, [_row(host) for host in report["hosts"]])
    if report["decision"]["reasons"]:
        lines += ["", "## Why", "", *(f"- {reason}" for reason in report["decision"]["reasons"])]
    if report["next"]:
        lines += ["", "## What to do next", "", *(f"- {step}" for step in report["next"])]
    if rows := _artifact_rows(report["artifacts"]):
        lines += ["", "## Artifacts", "", *table.markdown(("kernel", "artifact", "sha256"), rows)]
    return "\n".join(lines) + "\n"


def _hosts(plan: dict[str, Any], ledger: Ledger) -> list[dict[str, Any]]:
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


def _settle(host: dict[str, Any], decision: Decision) -> dict[str, Any]:
    """The host as the report tells it: once the rollout has stopped, what it did not come to is held."""
    kept = {key: value for key, value in host.items() if key != "counts"}
    if decision.verdict == "stop" and host["batch"] is not None and not host["done"] and host["state"] != "unknown":
        return {**kept, "state": "held", "reason": f"not touched; it was {host['before']}"}
    return kept


def _next(hosts: list[dict[str, Any]]) -> list[str]:
    steps = []
    for state, mend in _NEXT.items():
        names = [host["host"] for host in hosts if host["state"] == state]
        if names:
            steps.append(f"{', '.join(names[:5])}{' …' if len(names) > 5 else ''}: " + mend.format(host=names[0]))
    return steps


def _artifact_rows(artifacts: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [
        (release, kept["file"], kept["sha256"])
        for release, kernel in sorted(artifacts.items())
        for kept in kernel.values()
    ]


def _title(report: dict[str, Any]) -> str:
    return str(report["summary"]) + (" (check mode: nothing was changed)" if report["check"] else "")


def _counts(report: dict[str, Any]) -> str:
    total = len(report["hosts"])
    states = ", ".join(f"{count} {state}" for state, count in sorted(report["counts"].items()))
    return f"{total} host{'' if total == 1 else 's'}: {states}"


def _sentence(host: dict[str, Any]) -> str:
    return f"{host['host']} is {host['state']}" + (f": {host['reason']}" if host["reason"] else "")


def _row(host: dict[str, Any]) -> tuple[object, ...]:
    batch = "-" if host["batch"] is None else host["batch"]
    return (host["host"], host["kernel"], batch, host["before"], host["state"], host["reason"])
