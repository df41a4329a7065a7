# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps patches that replace the same function in their order: what came last is in charge of it.

What is loaded comes on top of all that is there, and so does a newer build. Those that belong above it have to come on
again; those of somebody else can't, so that they must not be covered. Knows hosts and artifacts only as data, as
decide.py does; *artifacts* are those of the set by name, in the order in which they are to be, without the core module.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from ansible_collections.kpatch.fleet.plugins.module_utils.host import decide
from ansible_collections.kpatch.fleet.plugins.module_utils.host.errors import HostError
from ansible_collections.kpatch.fleet.plugins.module_utils.host.modules import same_identity
from ansible_collections.kpatch.fleet.plugins.module_utils.manifest import module_name

Artifacts = dict[str, dict[str, Any]]
Host = dict[str, Any]
# Object, name, which of that name.
Function = tuple[str, str, int]

# Above all that is there.
_TOP = float("inf")


def again(artifacts: Artifacts, host: Host) -> list[str]:
    """Which of the set are on as they are to be, but would be below one that belongs below them."""
    places = _places(host)
    highest: dict[Function, float] = {}
    found = []
    for name, artifact in artifacts.items():
        module = module_name(name)
        # What is on and not on the list was put on by a run that was killed before it was.
        place = places.get(module, len(places) + 1) if _is_on(artifact, decide.find(host, module, artifact)) else _TOP
        if any(highest.get(one, 0) > place for one in replaced(artifact)):
            found.append(name)
            place = _TOP
        for one in replaced(artifact):
            highest[one] = max(highest.get(one, 0), place)
    return found


def check(artifacts: Artifacts, host: Host, gone: Collection[str] = ()) -> None:
    """HostError if a patch that is neither of the set nor *gone* is above one of the set that comes on anew."""
    places = _places(host)
    anew = again(artifacts, host)
    ours = {module_name(name) for name in (*artifacts, *gone)}
    others = [patch for patch in host["patches"] if patch.get("enabled") and patch["module"] not in ours]
    for name, artifact in artifacts.items():
        module = module_name(name)
        loaded = decide.find(host, module, artifact)
        if loaded is None or (_is_on(artifact, loaded) and name not in anew):
            continue
        for other in others:
            # Where one is that the host was not given by us, nobody knows.
            above = places.get(other["module"], _TOP) > places.get(module, 0)
            if above and (both := sorted(replaced(artifact) & shown(other))):
                _refuse(module, other["module"], both[0])


def _refuse(module: str, other: str, function: Function) -> None:
    raise HostError(
        "foreign-patch",
        f"{other} replaces {function[1]} of {function[0]}, too, on top of {module}, and is not of this set: {module} "
        f"would come on top of it. Roll both out in one set, {module} first, or take {other} off first",
    )


def replaced(artifact: dict[str, Any]) -> set[Function]:
    """What an artifact replaces."""
    return {_function(one["object"], one) for one in artifact["functions"]}


def shown(patch: dict[str, Any]) -> set[Function]:
    """What a loaded patch replaces, as its kernel shows it."""
    return {_function(target["name"], one) for target in patch.get("objects") or [] for one in target["functions"]}


def _function(target: str, function: dict[str, Any]) -> Function:
    # 0 and 1 both mean the first symbol of that name.
    return target, function["name"], max(function["sympos"], 1)


def _places(host: Host) -> dict[str, int]:
    """The place of each module of ours from the lowest, 1, as far as the host keeps it."""
    return {module: place for place, module in enumerate(host.get("at_boot") or [], start=1)}


def _is_on(artifact: dict[str, Any], loaded: dict[str, Any] | None) -> bool:
    return bool(loaded and loaded.get("enabled", True) and same_identity(loaded, artifact))
