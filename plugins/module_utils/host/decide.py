# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides what has to be done to a host; knows it only as data, so that the controller can decide as well.

*host* is what state.read_host() returned, *module* the kernel module's name.
"""

from __future__ import annotations

from typing import Any

from ansible_collections.kpatch.fleet.plugins.module_utils import manifest as manifests
from ansible_collections.kpatch.fleet.plugins.module_utils.host.errors import HostError
from ansible_collections.kpatch.fleet.plugins.module_utils.host.modules import same_identity
from ansible_collections.kpatch.fleet.plugins.module_utils.host.parts import Part
from ansible_collections.kpatch.fleet.plugins.module_utils.manifest import CORE_NAME, LIVEPATCH

Host = dict[str, Any]
Manifest = dict[str, Any]


def find(host: Host, module: str, manifest: Manifest | None = None) -> dict[str, Any] | None:
    """The loaded module as *host* shows it, or None; of several builds that of *manifest*, else an enabled one."""
    found = builds(host, module)
    wanted = [one for one in found if manifest and same_identity(one, manifest)]
    return next(iter([*wanted, *found]), None)


def builds(host: Host, module: str) -> list[dict[str, Any]]:
    """Every build of *module* that is loaded, the enabled ones first."""
    if module == CORE_NAME:
        return [host["core"]] if host["core"] else []
    return [patch for patch in host["patches"] if patch["module"] == module]


def ours(host: Host) -> list[str]:
    """The names of the patches that the host has, loaded or staged, in the order in which they were enabled.

    A loaded module counts if it is the artifact of a manifest that the host keeps: whatever else is loaded is somebody
    else's, even under the same name.
    """
    kept = [one for one in host.get("manifests") or [] if one["module"] != CORE_NAME]
    return [one["name"] for one in kept if _is_kept(builds(host, one["module"]), one)]


def _is_kept(found: list[dict[str, Any]], manifest: Manifest) -> bool:
    return not found or any(same_identity(one, manifest) for one in found)


def loaded_as(found: dict[str, Any]) -> str:
    """What the kernel knows a loaded module as."""
    return str(found.get("loaded_as") or found["module"])


def summary(host: Host, module: str, manifest: Manifest | None) -> dict[str, Any]:
    """The module's state in few words: what 'before' and 'after' show. Its identity is compared with *manifest*."""
    found = find(host, module, manifest)
    staged = host["staged"]
    return {
        "module": module,
        "state": _state(found),
        "identity": None if found is None or manifest is None else _identity(found, manifest),
        "transition": any(one.get("transition") for one in builds(host, module)),
        "srcversion": found and found["srcversion"],
        "build_id": found and found["build_id"],
        "staged": None if staged is None else module in staged,
    }


def reached(host: Host, part: Part) -> Host:
    """What *host* will be once the wanted state of *part* is reached."""
    then = _then(find(host, part.module, part.manifest), part)
    staged = host["staged"]
    if staged is not None and part.wanted == "absent":
        staged = [module for module in staged if module != part.module]
    elif staged is not None and "publish" in steps(host, part):
        staged = sorted({*staged, part.module})
    if part.module == CORE_NAME:
        return {**host, "core": then, "staged": staged}
    others = [patch for patch in host["patches"] if patch["module"] != part.module]
    return {**host, "patches": [*others, then] if then else others, "staged": staged}


def steps(host: Host, part: Part) -> list[str]:
    """What to do, in order; nothing if the wanted state is there. HostError if it must not be done."""
    if part.wanted == "absent":
        return _to_absent(host, part.module)
    if part.wanted == "unloaded":
        return _to_unloaded(host, part.module)
    if part.wanted == "disabled":
        return _to_disabled(builds(host, part.module))
    return _to_running(host, part.module, wanted_manifest(part))


def wanted_manifest(part: Part) -> Manifest:
    """The manifest of what is to be loaded; HostError if none came along."""
    if part.manifest is None:
        raise HostError("bad-arguments", f"{part.module}: without an artifact nothing can be loaded; set 'store'")
    return part.manifest


def describe(state: dict[str, Any]) -> str:
    """A summary as the last sentence of an error message."""
    switching = ", in transition" if state["transition"] else ""
    other = ", and another build than the one wanted" if state["identity"] == "different" else ""
    return f"On the host now: {state['module']} is {state['state']}{switching}{other}."


def changes(todo: list[str]) -> bool:
    """Whether *todo* does more than wait for a switch that is under way anyway."""
    return any(step != "settle" for step in todo)


def _then(found: dict[str, Any] | None, part: Part) -> dict[str, Any] | None:
    """The module as the host will show it."""
    if part.wanted in ("absent", "unloaded"):
        return None
    if part.wanted == "disabled":
        return found and {**found, "enabled": False, "transition": False}
    manifest = wanted_manifest(part)
    shown = {key: manifest[key] for key in ("srcversion", "build_id", "abi")}
    shown["loaded_as"] = manifests.loaded_as(manifest)
    return {"module": part.module, **(found or {}), **shown, "registered": True, "enabled": True, "transition": False}


def _identity(found: dict[str, Any], manifest: Manifest) -> str:
    return "wanted" if same_identity(found, manifest) else "different"


def _state(found: dict[str, Any] | None) -> str:
    if found is None:
        return "absent"
    if found["module"] == CORE_NAME:
        return "loaded"
    return "enabled" if found["enabled"] else "disabled"


def _to_running(host: Host, module: str, manifest: Manifest) -> list[str]:
    _refuse_damaged(host)
    found = find(host, module, manifest)
    if found is None:
        return ["stage", "load", "publish"]
    if same_identity(found, manifest) and found.get("registered", True):
        return [*_to_enabled(found), *_to_staged(host, module), *_to_one(host, module), *_to_kept(host, module)]
    if all(loaded_as(one) != manifests.loaded_as(manifest) for one in builds(host, module)):
        # Both are loaded for a while: the new one takes the place of the old one in one switch.
        return ["stage", "load", "clear", "publish"]
    _refuse_core_in_use(host, module)
    return ["stage", *_off(builds(host, module)), "unload", "load", "publish"]


def _to_enabled(found: dict[str, Any]) -> list[str]:
    if not found.get("enabled", True):
        return ["enable"]
    return ["settle"] if found.get("transition") else []


def _to_staged(host: Host, module: str) -> list[str]:
    """A run that was killed after the load has left it unpublished."""
    missing = host["staged"] is not None and module not in host["staged"]
    return ["stage", "publish"] if missing else []


def _to_one(host: Host, module: str) -> list[str]:
    """A run that was killed before it had unloaded the older build has left that."""
    return ["clear"] if len(builds(host, module)) > 1 else []


def _to_kept(host: Host, module: str) -> list[str]:
    """A run that was killed in between has left it out of what is on again at a boot, or that was removed."""
    at_boot = host.get("at_boot")
    return ["keep"] if at_boot is not None and module not in at_boot else []


def _to_disabled(found: list[dict[str, Any]]) -> list[str]:
    """A patch that isn't loaded is off, too."""
    return _off(found) or (["settle"] if any(one["transition"] for one in found) else [])


def _off(found: list[dict[str, Any]]) -> list[str]:
    return ["disable"] if any(one.get("enabled") for one in found) else []


def _to_absent(host: Host, module: str) -> list[str]:
    todo = _to_unloaded(host, module)
    # Where only root could tell whether something is staged, root's run finds out.
    if host["staged"] is None or module in host["staged"]:
        todo.append("unstage")
    return todo


def _to_unloaded(host: Host, module: str) -> list[str]:
    found = builds(host, module)
    if not found:
        return []
    _refuse_core_in_use(host, module)
    return [*_off(found), "unload"]


def _refuse_damaged(host: Host) -> None:
    """Nothing comes on that could not be kept for the next boot, or in an order that nobody can read any more."""
    if host.get("damaged"):
        raise HostError("damaged", host["damaged"])


def _refuse_core_in_use(host: Host, module: str) -> None:
    users = [patch["module"] for patch in host["patches"] if patch.get("backend") != LIVEPATCH]
    if module == CORE_NAME and users:
        names = ", ".join(users)
        raise HostError(
            "core-in-use",
            f"the core module can't be unloaded while patches are registered with it: {names}; "
            "remove them first (kpatch.fleet.patch with state: absent)",
        )
