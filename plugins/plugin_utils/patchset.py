# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks what an operator asks for in kpatch_patches, before anything is looked at or built."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ansible_collections.kpatch.fleet.plugins.module_utils.manifest import (
    BACKENDS,
    CORE_NAME,
    LEAVE,
    MEANS,
    SWITCH,
    ManifestError,
    check_name,
)
from ansible_collections.kpatch.fleet.plugins.plugin_utils.errors import FleetError

_WORDS = {"leave": LEAVE, "switch": SWITCH, "means": MEANS, "backend": (*BACKENDS, "auto")}
_CVE = re.compile(r"CVE-[0-9]{4}-[0-9]{4,}")


def names(patches: list[dict[str, Any]]) -> list[str]:
    """The names of the patches in the order given; FleetError if one can't be a name or comes twice."""
    if not patches:
        raise FleetError("kpatch_patches is empty: name at least one patch")
    found: list[str] = []
    for patch in patches:
        name = _name(patch.get("name"))
        if name in found:
            raise FleetError(f"kpatch_patches names {name!r} twice")
        found.append(name)
    return found


def complete(patches: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each patch with its defaults and the absolute path of its source, which must be there."""
    names(patches)
    return [_complete(patch) for patch in patches]


def metadata(patches: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the patch set says for people: the name of each patch, the CVEs that it mends, a description."""
    return [
        {"name": name, "cves": _cves(patch), "description": str(patch.get("description") or "")}
        for name, patch in zip(names(patches), patches)
    ]


def _cves(patch: dict[str, Any]) -> list[str]:
    cves = patch.get("cves") or []
    if isinstance(cves, list) and all(isinstance(cve, str) and _CVE.fullmatch(cve) for cve in cves):
        return cves
    raise FleetError(f"patch {patch['name']!r}: cves can't be {cves!r}: give a list such as [CVE-2026-12345]")


def _complete(patch: dict[str, Any]) -> dict[str, Any]:
    source = Path(str(patch.get("source") or "")).expanduser().absolute()
    if not patch.get("source") or not source.is_file():
        raise FleetError(f"patch {patch['name']!r}: its source {patch.get('source')!r} is not a file on the controller")
    chosen: dict[str, Any] = {"leave": patch.get("leave", "patched_set"), "switch": patch.get("switch", "kernel")}
    chosen.update({key: patch[key] for key in ("backend", "means") if key in patch})
    for axis, words in _WORDS.items():
        if axis in chosen and chosen[axis] not in words:
            raise FleetError(
                f"patch {patch['name']!r}: {axis} can't be {chosen[axis]!r}: use one of {', '.join(words)}"
            )
    for key in ("replace", "strict"):
        if not isinstance(patch.get(key, False), bool):
            raise FleetError(f"patch {patch['name']!r}: {key} can't be {patch[key]!r}: use true or false")
        if key in patch:
            chosen[key] = patch[key]
    return {"name": patch["name"], "source": str(source), **chosen}


def _name(name: Any) -> str:
    try:
        check_name(name)
    except ManifestError as error:
        raise FleetError(f"kpatch_patches: {error}") from error
    if name == CORE_NAME:
        raise FleetError(f"kpatch_patches: {name!r} is the core module's name: choose another for the patch")
    return str(name)
