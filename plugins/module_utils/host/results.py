# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The form of the results of core, patch and patchset."""

from __future__ import annotations

from typing import Any

from ansible_collections.kpatch.fleet.plugins.module_utils.host import decide
from ansible_collections.kpatch.fleet.plugins.module_utils.host.errors import HostError
from ansible_collections.kpatch.fleet.plugins.module_utils.host.parts import Part

Result = dict[str, Any]
Host = dict[str, Any]


def outcome(before: dict[str, Any], after: dict[str, Any], changed: bool) -> Result:
    """The result of one part without failure; *before* and *after* are its summaries."""
    said = f"{before['module']}: {before['state']} -> {after['state']}" if changed else f"{before['module']}: as wanted"
    if changed and before["identity"] == "different":
        said += f", another build replaced (build id {before['build_id']} -> {after['build_id']})"
    return {"changed": changed, "msg": said, **_states(before, after)}


def failure(error: HostError, before: dict[str, Any] | None, after: dict[str, Any] | None) -> Result:
    """A failed result; it says what state the part was left in, where that is known."""
    result: Result = {"failed": True, "changed": before != after, "reason": error.reason, "msg": str(error)}
    if before and after:
        result.update(_states(before, after))
        result["msg"] = f"{error}. {decide.describe(after)}"
    return result


def whole(kind: str, parts: list[Part], results: list[Result], before: Host, after: Host, now: Host) -> Result:
    """The result of the module *kind*, made of the *results* of its first *parts*; all hosts are as read_host() has it.

    *after* is what the host was brought to, in check mode what it would be; *now* is what it is.
    """
    if kind != "patchset":
        return results[0]
    failed = next((result for result in results if result.get("failed")), None)
    result: Result = {
        "changed": any(result["changed"] for result in results),
        "msg": "; ".join(result["msg"] for result in results),
        "results": results,
        "host": now,
        **_states(_summaries(parts, before), _summaries(parts, after)),
    }
    if failed:
        tried = {one["before"]["module"] for one in results if "before" in one}
        rest = _others(parts, failed, tried, now)
        result.update(failed=True, reason=failed["reason"], msg=f"{failed['msg']}{rest}")
    return result


def restored(modules: list[str], before: Host, after: Host, now: Host, error: HostError | None) -> Result:
    """The result of taking a change of *modules* back; *error* is why it could not be."""
    then, since = ({module: decide.summary(host, module, None) for module in modules} for host in (before, after))
    told = ", ".join(f"{module} is {one['state']}" for module, one in since.items())
    result: Result = {"changed": then != since, "host": now, "results": [], **_states(then, since)}
    if error:
        return {**result, "failed": True, "reason": error.reason, "msg": f"{error}. On the host now: {told}."}
    return {**result, "msg": f"it is as before the change: {told}"}


def _others(parts: list[Part], failed: Result, tried: set[str], now: Host) -> str:
    """What to add to the message of the part that *failed*: the state of all the others, and which were not tried."""
    told = [
        f"{part.module} is {decide.summary(now, part.module, part.manifest)['state']}"
        + ("" if part.module in tried else " (not tried)")
        for part in {part.module: part for part in parts}.values()
        if part.module != failed.get("before", {}).get("module")
    ]
    return f" Of the others, {', '.join(told)}." if told else ""


def _summaries(parts: list[Part], host: Host) -> dict[str, Any]:
    return {part.module: decide.summary(host, part.module, part.manifest) for part in parts}


def _states(before: dict[str, Any], after: dict[str, Any]) -> Result:
    return {"before": before, "after": after, "diff": {"before": before, "after": after}}
