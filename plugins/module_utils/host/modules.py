# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the loadable modules that are in the kernel, from /sys/module."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible_collections.kpatch.fleet.plugins.module_utils.host.elf import build_id
from ansible_collections.kpatch.fleet.plugins.module_utils.host.files import (
    read_bytes,
    read_int,
    read_text,
    subdirectories,
)


def read_module(root: Path, name: str) -> dict[str, Any] | None:
    """The module *name* as the kernel shows it; None if it isn't loaded or is built in."""
    path = root / "sys/module" / name
    initstate = read_text(path / "initstate")
    if initstate is None:
        return None
    return {
        "module": name,
        "initstate": initstate,
        "srcversion": read_text(path / "srcversion"),
        "build_id": build_id(read_bytes(path / "notes/.note.gnu.build-id") or b""),
        "refcnt": read_int(path / "refcnt"),
        "taint": read_text(path / "taint") or "",
    }


def loaded_with_prefix(root: Path, prefix: str) -> list[str]:
    """The names of the loaded modules that begin with *prefix*."""
    directory = root / "sys/module"
    names = [name for name in subdirectories(directory) if name.startswith(prefix)]
    return [name for name in names if (directory / name / "initstate").exists()]


def holders(root: Path, name: str) -> list[str]:
    """The modules that use the module *name*."""
    return subdirectories(root / "sys/module" / name / "holders")


def same_identity(module: dict[str, Any], manifest: dict[str, Any]) -> bool:
    """Whether the loaded *module* is the very artifact of *manifest*: by its bytes, not by its name."""
    return (module["srcversion"], module["build_id"]) == (manifest["srcversion"], manifest["build_id"])
