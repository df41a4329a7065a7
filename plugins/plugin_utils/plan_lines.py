# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan as an operator reads it before anything is done: artifacts, gates, batches, who is left out."""

from __future__ import annotations

import textwrap
from typing import Any

from ansible_collections.kpatch.fleet.plugins.plugin_utils import losses, states, table
from ansible_collections.kpatch.fleet.plugins.plugin_utils import plan as plans
from ansible_collections.kpatch.fleet.plugins.plugin_utils.policy import Policy

Plan = dict[str, Any]

# Of a sha256, as much as tells one artifact from another and fits; all of it is in plan.json.
_DIGITS = 16
_NARROWEST = 40
_FAILED = {
    "hold": "nothing is taken back",
    "batch": "the batch is brought back to what it ran before",
    "all": "all that was changed is brought back to what it ran before",
}


def lines(plan: Plan, width: int) -> list[str]:
    """All of it, in lines of *width* columns."""
    return wrapped([*what(plan), *_batches(plan), *_obsolete(plan), *_again(plan), *_left_out(plan)], width)


def what(plan: Plan) -> list[str]:
    """What is done, with which artifacts, behind which gates; not where."""
    doing = {"applied": "rollout of", "absent": "rollback of"}[plan["want"]]
    head = f"plan {plan['id']}: {doing} {', '.join(plan['patches'])}"
    return [head, *losses.lines(losses.of(plan)), *_artifacts(plan), *_gates(plan)]


def wrapped(lines: list[str], width: int) -> list[str]:
    """*lines* in *width* columns; what goes on in a further line is indented. A word longer than that is not broken."""
    return [part for line in lines for part in _wrap(line, max(width, _NARROWEST))]


def _wrap(line: str, width: int) -> list[str]:
    if len(line) <= width:
        return [line]
    indent = " " * (len(line) - len(line.lstrip()) + 4)
    return textwrap.wrap(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _artifacts(plan: Plan) -> list[str]:
    told = []
    for release, kernel in sorted(plan["kernels"].items()):
        rows = [(name, one["sha256"][:_DIGITS], one.get("backend", "")) for name, one in kernel["artifacts"].items()]
        told.append(f"artifacts for {release}:")
        told += [f"  {line}" for line in table.text(("name", "sha256", "backend"), rows)]
    return told


def _gates(plan: Plan) -> list[str]:
    """What opens and shuts the gate before each batch; limits that there are none of are left out."""
    policy = plan["policy"]
    checks = ", ".join(str(one["name"]) for one in policy["checks"])
    # A rollback is not taken back.
    scope = policy["on_failure"] if plan["want"] == "applied" else "hold"
    return [
        "gates:",
        f"  may fail: {policy['budget']}, and no canary",
        f"  watched: {policy['soak']} s, {policy['looks']} looks" if policy["looks"] else "  watched: no",
        f"  checks: {checks or 'none but the kernel'}",
        f"  a switch may wait: {policy['deadline']} s",
        f"  if one fails: {_FAILED[scope]}",
        *(f"  limit: {limit}" for limit in _limits(policy)),
    ]


def _limits(policy: Policy) -> list[str]:
    down, down_in_one, throttle = policy["max_down"], policy["max_down_per_domain"], policy["throttle"]
    limits = {
        f"at most {down} hosts down at once": down,
        f"at most {down_in_one} down in one {policy['domain'] or 'domain'}": down_in_one,
        f"at most {throttle} changed at once": throttle,
        f"no batch begins in {', '.join(policy['blackout'])} UTC": policy["blackout"],
    }
    return [told for told, limit in limits.items() if limit]


def _batches(plan: Plan) -> list[str]:
    total = len(plan["batches"])
    return [
        f"batch {number} of {total}{' (canary)' if number == 1 else ''}: {', '.join(batch)}"
        for number, batch in enumerate(plan["batches"], start=1)
    ] or ["nothing to do"]


def _obsolete(plan: Plan) -> list[str]:
    """Which patches have left the set and go, and where."""
    found = plans.hosts_by(plan, "obsolete").items()
    return [f"off: {name} (not in the set any more), on {', '.join(hosts)}" for name, hosts in found]


def _again(plan: Plan) -> list[str]:
    """Which patches go off and come on again, and where."""
    found = plans.hosts_by(plan, "again").items()
    return [f"off and on: {name} (belongs above others of the set), on {', '.join(hosts)}" for name, hosts in found]


def _left_out(plan: Plan) -> list[str]:
    return [
        f"not in a batch: {name} is {host['state']}" + (f": {host['reason']}" if host["reason"] else "")
        for name, host in plan["hosts"].items()
        if host["state"] in states.UNTOUCHABLE
    ]
