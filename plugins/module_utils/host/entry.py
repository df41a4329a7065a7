# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules core and patch have in common: their options, and the form of their results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible_collections.kpatch.fleet.plugins.module_utils import manifest as manifests
from ansible_collections.kpatch.fleet.plugins.module_utils.host import decide
from ansible_collections.kpatch.fleet.plugins.module_utils.host.errors import HostError
from ansible_collections.kpatch.fleet.plugins.module_utils.host.loader import KernelLoader
from ansible_collections.kpatch.fleet.plugins.module_utils.host.transition import Transition

STATES = {"core": ("loaded", "absent"), "patch": ("enabled", "disabled", "absent")}


def argument_spec(kind: str) -> dict[str, Any]:
    """The options of the module *kind*: 'core' or 'patch'."""
    spec: dict[str, Any] = {
        "state": {"type": "str", "choices": list(STATES[kind]), "default": STATES[kind][0]},
        "store": {"type": "path"},
        "host": {"type": "dict"},
        "manifest": {"type": "dict"},
        "src": {"type": "path"},
        "timeout": {"type": "float", "default": 30.0},
    }
    if kind == "patch":
        spec["name"] = {"type": "str", "required": True}
    return spec


def artifact_name(params: dict[str, Any]) -> str:
    """The artifact's name; HostError if the option 'name' can't name a patch."""
    name = params.get("name")
    if name is None:
        return manifests.CORE_NAME
    try:
        manifests.check_name(name)
    except manifests.ManifestError as error:
        raise HostError("bad-arguments", str(error)) from error
    if name == manifests.CORE_NAME:
        raise HostError("bad-arguments", f"{name!r} is the core module's own name; give the patch another one")
    return str(name)


def checked_manifest(manifest: Any, name: str) -> dict[str, Any]:
    """*manifest* if it is well-formed and that of the artifact *name*; else HostError."""
    try:
        checked = manifests.check(manifest)
    except manifests.ManifestError as error:
        raise HostError("bad-manifest", f"{name}: {error}; build it again") from error
    if checked["name"] != name:
        raise HostError("bad-manifest", f"{name}: the manifest is that of {checked['name']!r}; build it again")
    return checked


def run(params: dict[str, Any], check_mode: bool, root: Path = Path("/")) -> dict[str, Any]:
    """Do what the options say; the module's result, of which a failure has 'failed' and 'reason'."""
    transition = None
    try:
        name = artifact_name(params)
        manifest = checked_manifest(params["manifest"], name) if params["manifest"] else None
        transition = Transition(
            root,
            KernelLoader(),
            manifests.module_name(name),
            params["state"],
            manifest,
            Path(params["src"]) if params["src"] else None,
            params["timeout"],
        )
        changed, after = transition.foresee() if check_mode else transition.reach()
    except HostError as error:
        return _failure(error, transition)
    return {**outcome(transition.before, after, changed), "warnings": transition.warnings}


def outcome(before: dict[str, Any], after: dict[str, Any], changed: bool) -> dict[str, Any]:
    """A result without failure."""
    said = f"{before['module']}: {before['state']} -> {after['state']}" if changed else f"{before['module']}: as wanted"
    if changed and before["identity"] == "different":
        said += f", another build replaced (build id {before['build_id']} -> {after['build_id']})"
    return {"changed": changed, "msg": said, **_states(before, after)}


def failure(error: HostError, before: dict[str, Any] | None, after: dict[str, Any] | None) -> dict[str, Any]:
    """A failed result; it says what state the host was left in, where that is known."""
    result: dict[str, Any] = {"failed": True, "changed": before != after, "reason": error.reason, "msg": str(error)}
    if before and after:
        result.update(_states(before, after))
        result["msg"] = f"{error}. {decide.describe(after)}"
    return result


def _failure(error: HostError, transition: Transition | None) -> dict[str, Any]:
    if transition is None:
        return failure(error, None, None)
    return failure(error, transition.before, transition.look())


def _states(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    return {"before": before, "after": after, "diff": {"before": before, "after": after}}
