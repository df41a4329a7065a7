# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules core, patch and patchset are asked for: a list of our modules, each with its wanted state.

A core module or a patch alone is a set of one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ansible_collections.kpatch.fleet.plugins.module_utils import manifest as manifests
from ansible_collections.kpatch.fleet.plugins.module_utils.host.errors import HostError

STATES = {
    "core": ("loaded", "absent"),
    "patch": ("enabled", "disabled", "absent"),
    "patchset": ("enabled", "absent", "restored"),
}
# These states need an artifact; the others only need a name.
ARTIFACT_STATES = ("loaded", "enabled")


@dataclass(frozen=True)
class Part:
    """One module of ours: *wanted* is one of 'loaded' (the core module), 'enabled', 'disabled' (patches), 'absent',
    and on the way to another core module 'unloaded', which leaves the staged file where it is. 'restored' is of a whole
    set only: what each of its parts was before a change.

    *manifest* is its artifact's where one is wanted, *src* the .ko, on the machine where the part is looked at.
    *downgrade* says that it may be older than what was there before.
    """

    name: str
    wanted: str
    manifest: dict[str, Any] | None = None
    src: Path | None = None
    signature: str | None = None
    downgrade: bool = False

    @property
    def module(self) -> str:
        """The kernel module's name."""
        return manifests.module_name(self.name)

    @property
    def needs_artifact(self) -> bool:
        """Whether the wanted state can only be reached, and told, with an artifact."""
        return self.wanted in ARTIFACT_STATES


def argument_spec(kind: str) -> dict[str, Any]:
    """The options of the module *kind*: 'core', 'patch' or 'patchset'."""
    artifact = {"manifest": {"type": "dict", "required": True}, "src": {"type": "path"}, "signature": {"type": "str"}}
    spec: dict[str, Any] = {
        "state": {"type": "str", "choices": list(STATES[kind]), "default": STATES[kind][0]},
        "store": {"type": "path"},
        "host": {"type": "dict"},
        "artifacts": {"type": "list", "elements": "dict", "options": artifact, "default": []},
        "timeout": {"type": "float", "default": 30.0},
        "order": {"type": "str"},
        "downgrade": {"type": "bool", "default": False},
    }
    if kind == "patch":
        spec["name"] = {"type": "str", "required": True}
    if kind == "patchset":
        spec["names"] = {"type": "list", "elements": "str", "required": True}
        spec["core"] = {"type": "bool", "default": True}
        spec["planned"] = {"type": "dict"}
        spec["undoes"] = {"type": "str"}
        spec["obsolete"] = {"type": "list", "elements": "str", "default": []}
    return spec


def asked_for(kind: str, params: dict[str, Any]) -> list[Part]:
    """What the options of the module *kind* ask for, in the order in which it is done; HostError for bad names."""
    if kind == "core":
        return [Part(manifests.CORE_NAME, params["state"])]
    names = [params["name"]] if kind == "patch" else params["names"]
    patches = [Part(_checked_name(name), params["state"]) for name in names]
    if kind == "patch":
        return patches
    if not names or len(set(names)) < len(names):
        raise HostError("bad-arguments", f"'names' is {names}; name at least one patch, and each only once")
    _check_obsolete(params)
    if bool(params.get("undoes")) != (params["state"] == "restored"):
        raise HostError("bad-arguments", "the state restored needs 'undoes', the name of a change, and no other does")
    return _with_core(patches, params["state"]) if params["core"] else _ordered(patches, params["state"])


def need_core(patches: list[Part]) -> bool:
    """Whether the core module has to be on for *patches*: not if each has an artifact for the kernel's own livepatch.

    Without patches it is wanted for itself.
    """
    backends = [patch.manifest and patch.manifest["backend"] for patch in patches]
    return not backends or any(backend != manifests.LIVEPATCH for backend in backends)


def with_artifacts(parts: list[Part], artifacts: list[dict[str, Any]], downgrade: bool = False) -> list[Part]:
    """*parts* with what came along for them: each artifact is a checked 'manifest' and, if it was shipped, 'src'."""
    came: dict[str, dict[str, Any]] = {}
    for artifact in artifacts:
        manifest = checked_manifest(artifact["manifest"])
        src = Path(artifact["src"]) if artifact["src"] else None
        came[manifest["name"]] = {"manifest": manifest, "src": src, "signature": artifact.get("signature")}
    return [replace(part, downgrade=downgrade, **came.get(part.name, {})) for part in parts]


def checked_manifest(manifest: Any) -> dict[str, Any]:
    """*manifest* if it is well-formed; else HostError."""
    try:
        return manifests.check(manifest)
    except manifests.ManifestError as error:
        raise HostError("bad-manifest", f"{error}; build it again") from error


def _with_core(patches: list[Part], wanted: str) -> list[Part]:
    """The core module comes first, and goes last."""
    core = Part(manifests.CORE_NAME, "loaded" if wanted == "enabled" else wanted)
    return _ordered([core, *patches], wanted)


def _check_obsolete(params: dict[str, Any]) -> None:
    """What is obsolete goes after others have come, and is none of them."""
    obsolete = [_checked_name(name) for name in params.get("obsolete") or []]
    if obsolete and params["state"] != "enabled":
        raise HostError("bad-arguments", "'obsolete' goes with the state enabled only; name them in 'names'")
    if both := [name for name in obsolete if name in params["names"]]:
        raise HostError("bad-arguments", f"{', '.join(both)}: can't be both in 'names' and 'obsolete'")


def _ordered(parts: list[Part], wanted: str) -> list[Part]:
    return parts[::-1] if wanted == "absent" else parts


def _checked_name(name: Any) -> str:
    try:
        manifests.check_name(name)
    except manifests.ManifestError as error:
        raise HostError("bad-arguments", str(error)) from error
    if name == manifests.CORE_NAME:
        raise HostError("bad-arguments", f"{name!r} is the core module's own name; give the patch another one")
    return str(name)
