# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the live patches: ours from /sys/kernel/kpatch, the kernel's own from /sys/kernel/livepatch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible_collections.kpatch.fleet.plugins.module_utils.host.files import (
    read_flag,
    read_int,
    read_text,
    subdirectories,
)
from ansible_collections.kpatch.fleet.plugins.module_utils.host.modules import (
    holders,
    loaded_with_prefix,
    read_module,
)
from ansible_collections.kpatch.fleet.plugins.module_utils.manifest import CORE_NAME, KPATCH, LIVEPATCH, module_of

CORE_DIRECTORY = "sys/kernel/kpatch"
_LIVEPATCH_DIRECTORY = "sys/kernel/livepatch"
_GIVEN_BY_LIVEPATCH = {"leave": "patched_set", "switch": "thread"}


def patch_directory(root: Path, module: str, backend: str = KPATCH) -> Path:
    """Where the core module, or livepatch, shows what the kernel knows as *module* once it is registered."""
    return root / _LIVEPATCH_DIRECTORY / module if backend == LIVEPATCH else root / CORE_DIRECTORY / "patches" / module


def read_core(root: Path) -> dict[str, Any] | None:
    """The core module, or None if it is not loaded."""
    core = read_module(root, CORE_NAME)
    return None if core is None else {**core, "abi": read_int(root / CORE_DIRECTORY / "abi")}


def read_refusal(root: Path) -> str:
    """Why the core module last refused; empty if it did not."""
    return read_text(root / CORE_DIRECTORY / "refusal") or ""


def busy_reason(refusal: str) -> str:
    """Whether EBUSY, explained by *refusal*, means a task that may go away or somebody else's redirection."""
    return "foreign-patch" if "redirected by someone else" in refusal else "busy"


def read_patches(root: Path) -> list[dict[str, Any]]:
    """The patch modules, by name: every registered one, and those that are loaded without being registered.

    Of several builds of one patch, those that are enabled come first.
    """
    names = set(subdirectories(root / CORE_DIRECTORY / "patches"))
    names.update(loaded_with_prefix(root, CORE_NAME + "_"))
    patches = [patch for patch in (read_patch(root, name) for name in sorted(names)) if patch]
    return sorted(patches, key=lambda patch: (patch["module"], not patch["enabled"]))


def read_patch(root: Path, name: str) -> dict[str, Any] | None:
    """The patch module that the kernel knows as *name*, or None if it is not loaded."""
    module = read_module(root, name)
    if module is None:
        return None
    backend = _backend(root, name)
    path = patch_directory(root, name, backend)
    return {
        **module,
        "module": module_of(name),
        "loaded_as": name,
        "backend": backend,
        "registered": path.is_dir(),
        "enabled": read_flag(path / "enabled"),
        "transition": read_flag(path / "transition"),
        "forced": read_flag(path / "forced"),
        "blocking": read_blocking(path),
        "consistency": _GIVEN_BY_LIVEPATCH
        if backend == LIVEPATCH
        else _consistency(read_text(path / "consistency") or ""),
        "window_ns": read_int(path / "window_ns"),
        "objects": _read_objects(path),
    }


def _backend(root: Path, name: str) -> str:
    """What the patch module *name* is for: those of the core module use it. One of livepatch's that was disabled is
    shown nowhere any more.
    """
    if (root / _LIVEPATCH_DIRECTORY / name).is_dir():
        return LIVEPATCH
    known = patch_directory(root, name).is_dir() or name in holders(root, CORE_NAME)
    return KPATCH if known or not (root / _LIVEPATCH_DIRECTORY).is_dir() else LIVEPATCH


def read_livepatches(root: Path) -> list[dict[str, Any]]:
    """The patches of the kernel's own livepatch that are not ours, by name."""
    directory = root / _LIVEPATCH_DIRECTORY
    return [
        {
            "module": name,
            "enabled": read_flag(directory / name / "enabled"),
            "transition": read_flag(directory / name / "transition"),
            "objects": _read_objects(directory / name),
        }
        for name in subdirectories(directory)
        if not name.startswith(CORE_NAME + "_")
    ]


def read_blocking(path: Path) -> list[str]:
    """The tasks that hold up the switch of a patch in the core module's words: number, name, where it is."""
    return [line.strip() for line in (read_text(path / "blocking") or "").splitlines() if line.strip()]


def _read_objects(path: Path) -> list[dict[str, Any]]:
    """The objects of one patch: both interfaces have a directory for each, and in it one for each function."""
    return [
        {
            "name": name,
            "patched": read_flag(path / name / "patched"),
            "functions": [_function(entry) for entry in subdirectories(path / name)],
        }
        for name in subdirectories(path)
    ]


def _consistency(text: str) -> dict[str, str] | None:
    # A third word says by which means, which is no part of what was promised.
    words = text.split()
    return {"leave": words[0], "switch": words[1]} if len(words) > 1 else None


def _function(directory: str) -> dict[str, Any]:
    name, _comma, position = directory.rpartition(",")
    return {"name": name or directory, "sympos": int(position) if name and position.isdigit() else 0}
