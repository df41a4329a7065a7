# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one host has come to: judged by a look at it before, by what the tasks said, and by a look after.

The looks have the last word on what runs; what the tasks said tells why it is not what was wanted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ansible_collections.kpatch.fleet.plugins.plugin_utils import plan as plans
from ansible_collections.kpatch.fleet.plugins.plugin_utils import states
from ansible_collections.kpatch.fleet.plugins.plugin_utils.states import Verdict

Plan = dict[str, Any]
# What a host is in that could not be brought to what was wanted.
FAILED = {"applied": "apply-failed", "absent": "stuck"}


def before(plan: Plan, name: str, look: Any) -> Verdict | None:
    """The outcome if the host is not to be touched: it can't be, or is as wanted already; else None."""
    if verdict := states.lost(look):
        return verdict
    host, planned = look["host"], plan["hosts"][name]
    if verdict := states.moved(host["kernel"], planned):
        return verdict
    if verdict := _tainted(host, planned):
        return verdict
    now = now_is(plan, host)
    return now if now.state in (plan["want"], "transitioning") else None


def after(plan: Plan, name: str, results: list[Any], look: Any) -> Verdict:
    """The outcome after the tasks with *results* have run and the host was looked at again."""
    if verdict := states.lost(look):
        return verdict
    host, planned = look["host"], plan["hosts"][name]
    if verdict := states.moved(host["kernel"], planned):
        return verdict
    now = now_is(plan, host)
    if failure := failed(results):
        return Verdict(FAILED[plan["want"]], failure)
    if now.state not in (plan["want"], "transitioning"):
        reason = interrupted(results) or "every task said it was done"
        return Verdict(FAILED[plan["want"]], f"{reason}; but now: {now.reason}")
    return (_tainted(host, planned) or now) if now.state == plan["want"] else now


def foreseen(plan: Plan, name: str, results: list[Any]) -> Verdict:
    """The outcome in check mode: the state stays what it is, and the reason tells what would be done."""
    if failure := failed(results) or interrupted(results):
        return Verdict(FAILED[plan["want"]], failure)
    todo = [str(result.get("msg")) for result in _single(results) if result.get("changed")]
    return Verdict(plan["hosts"][name]["state"], "would do: " + "; ".join(todo) if todo else "nothing to do")


def now_is(plan: Plan, host: dict[str, Any]) -> Verdict:
    """How much of what the plan is about is on now."""
    if plan["want"] == "absent":
        core = plans.removes_core(plan["core"], plan["patches"], host)
        return states.present(host, plan["patches"], core)
    return states.applied(host, plan["patches"], plan["kernels"][host["kernel"]["release"]]["artifacts"])


def failed(results: list[Any]) -> str:
    """Why the first task that failed did so; empty if none did."""
    return next((_message(result) for result in _single(results) if result.get("failed")), "")


def interrupted(results: list[Any]) -> str:
    """How the host was lost during the tasks; empty if it was not."""
    return next((_message(result) for result in _single(results) if result.get("unreachable")), "")


def _tainted(host: dict[str, Any], planned: dict[str, Any]) -> Verdict | None:
    flags = states.new_taint(host["kernel"], planned)
    if not flags:
        return None
    return Verdict("needs-check", f"its kernel has new taint flags since the plan was made: {' '.join(flags)}")


def _single(results: list[Any]) -> Iterator[dict[str, Any]]:
    """The results one by one; that of a loop or of a patch set holds several.

    A patch set that has failed gives the reason itself, and tells what has become of all its parts; a loop doesn't.
    """
    for result in results:
        if isinstance(result, dict) and isinstance(result.get("results"), list) and not result.get("reason"):
            yield from _single(result["results"])
        elif isinstance(result, dict):
            yield result


def _message(result: dict[str, Any]) -> str:
    reason = f"{result['reason']}: " if result.get("reason") else ""
    return reason + " ".join(str(result.get("msg") or "it failed and did not say why").split())
