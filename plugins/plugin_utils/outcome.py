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
from ansible_collections.kpatch.fleet.plugins.plugin_utils import runs, states
from ansible_collections.kpatch.fleet.plugins.plugin_utils.states import Verdict

Plan = dict[str, Any]
# What a host is in that could not be brought to what was wanted.
FAILED = {"applied": "apply-failed", "absent": "stuck"}


def before(plan: Plan, name: str, look: Any) -> Verdict | None:
    """The outcome if the host is not to be touched: it can't be, or is as wanted already; else None."""
    if verdict := fault(plan, name, look):
        return verdict
    now = now_is(plan, name, look["host"])
    if now.state in (plan["want"], "transitioning", "damaged"):
        return now
    return _unfit(look.get("checks") or [])


def after(plan: Plan, name: str, results: list[Any], look: Any) -> Verdict:
    """The outcome after the tasks with *results* have run and the host was looked at again."""
    if verdict := _gone(plan, name, look):
        return verdict
    now = now_is(plan, name, look["host"])
    complaint = _complaint(look["host"], plan["hosts"][name])
    if failure := failed(results):
        # A kernel that oopsed on the way did not just refuse.
        return Verdict(complaint.state, f"{complaint.reason}; {failure}") if complaint else _failure(plan, failure)
    if now.state not in (plan["want"], "transitioning"):
        reason = interrupted(results) or "every task said it was done"
        return _failure(plan, f"{reason}; but now: {now.reason}")
    return (complaint or now) if now.state == plan["want"] else now


def worse(plan: Plan, name: str, look: Any) -> Verdict | None:
    """What has become of a host that was brought to what is wanted, or None if it is so still."""
    if verdict := fault(plan, name, look):
        return verdict
    now = now_is(plan, name, look["host"])
    return None if now.state == plan["want"] else _failure(plan, f"it did not stay so: {now.reason}")


def undone(plan: Plan, name: str, results: list[Any], look: Any, then: dict[str, Any]) -> Verdict:
    """What a host has come to on which the rollout was taken back; *then* is what it ran before."""
    if verdict := states.lost(look):
        return verdict
    other = changed(plan, name, look, then)
    if failure := failed(results) or interrupted(results):
        return Verdict("stuck", f"{failure}{_still(other)}")
    if other:
        return Verdict("stuck", f"it is not as before: {'; '.join(other)}")
    return Verdict("restored" if states.had(then, _parts(plan, name)) else "absent")


def changed(plan: Plan, name: str, look: Any, then: dict[str, Any]) -> list[str]:
    """What a host runs otherwise than it did *then*, of all that the plan is about; empty of a host that is lost."""
    now = runs.seen(look)
    return [] if now is None else states.changed(now, then, _parts(plan, name))


def _parts(plan: Plan, name: str) -> list[str]:
    return [*plan["patches"], *(plan["hosts"][name].get("obsolete") or [])]


def _still(other: list[str]) -> str:
    return f"; {'; '.join(other)}" if other else ""


def foreseen(plan: Plan, name: str, results: list[Any]) -> Verdict:
    """The outcome in check mode: the state stays what it is, and the reason tells what would be done."""
    if failure := failed(results) or interrupted(results):
        return _failure(plan, failure)
    todo = [str(result.get("msg")) for result in _single(results) if result.get("changed")]
    return Verdict(plan["hosts"][name]["state"], "would do: " + "; ".join(todo) if todo else "nothing to do")


def now_is(plan: Plan, name: str, host: dict[str, Any]) -> Verdict:
    """How much of what the plan is about is on now on the host *name*, which is read as *host*."""
    if plan["want"] == "absent":
        core = plans.removes_core(plan["core"], plan["patches"], host)
        return states.present(host, plan["patches"], core)
    on = states.applied(host, plan["patches"], plan["kernels"][host["kernel"]["release"]]["artifacts"])
    return states.without(host, plan["hosts"][name].get("obsolete") or [], on)


def with_order(results: list[Any], look: Any, order: str | None) -> list[Any]:
    """*results*, or what the host has kept of the *order*, if the connection was lost before its result came back."""
    kept = {} if states.lost(look) else look["host"].get("order") or {}
    if not (order and interrupted(results) and kept.get("order") == order):
        return results
    if kept.get("running"):
        return [{"failed": True, "reason": "stalled", "msg": "the host is still at work on it; look again later"}]
    return [kept["result"]] if isinstance(kept.get("result"), dict) else results


def failed(results: list[Any]) -> str:
    """Why the first task that failed did so, and what was done about it since, or was not; empty if none did."""
    found = list(_single(results))
    first = next((place for place, result in enumerate(found) if result.get("failed")), len(found))
    since = [result for result in found[first + 1 :] if result.get("changed") or result.get("failed")]
    return "; ".join(map(_message, [*found[first : first + 1], *since]))


def interrupted(results: list[Any]) -> str:
    """How the host was lost during the tasks; empty if it was not."""
    return next((_message(result) for result in _single(results) if result.get("unreachable")), "")


def _failure(plan: Plan, reason: str) -> Verdict:
    return Verdict(FAILED[plan["want"]], reason)


def _gone(plan: Plan, name: str, look: Any) -> Verdict | None:
    """Why the host is not the one that the plan saw: out of reach, another kernel, another boot."""
    return states.lost(look) or states.moved(look["host"]["kernel"], plan["hosts"][name])


def fault(plan: Plan, name: str, look: Any) -> Verdict | None:
    """What is wrong with the host or its kernel, whatever is on; None if nothing is."""
    return _gone(plan, name, look) or _complaint(look["host"], plan["hosts"][name])


def _complaint(host: dict[str, Any], planned: dict[str, Any]) -> Verdict | None:
    """What the kernel has met with since the plan was made that live patching does not explain."""
    told = states.complaints(host["kernel"], planned)
    return Verdict("needs-check", f"since the plan was made {'; '.join(told)}") if told else None


def _unfit(checks: list[dict[str, Any]]) -> Verdict | None:
    """Which of the operator's checks does not pass even before: after it, nothing could be told from it."""
    bad = [f"{one['name']}: {one['detail']}" for one in checks if one["verdict"] != "pass"]
    return Verdict("held", f"not touched, for before it {'; '.join(bad)}") if bad else None


def _single(results: list[Any]) -> Iterator[dict[str, Any]]:
    """The results one by one; that of a loop or of a patch set holds several.

    A patch set that has failed gives the reason itself, and tells what has become of all its parts; a loop doesn't.
    """
    for result in results:
        if isinstance(result, dict) and result.get("results") and not result.get("reason"):
            yield from _single(result["results"])
        elif isinstance(result, dict):
            yield result


def _message(result: dict[str, Any]) -> str:
    reason = f"{result['reason']}: " if result.get("reason") else ""
    return reason + " ".join(str(result.get("msg") or "it failed and did not say why").split())
