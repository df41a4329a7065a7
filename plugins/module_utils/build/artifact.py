# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What building the core module and building patch modules have in common: what is there, and the manifest."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.kpatch.fleet.plugins.module_utils import signature
from ansible_collections.kpatch.fleet.plugins.module_utils.build.store import SIGNING, Shelf, writing
from ansible_collections.kpatch.fleet.plugins.module_utils.build.tree import Tree, build_id
from ansible_collections.kpatch.fleet.plugins.module_utils.manifest import (
    CORE_NAME,
    FORMAT,
    KPATCH,
    dump,
    file_sha256,
    module_name,
)


@dataclass(frozen=True)
class Result:
    """What was done, or in check mode would be: manifest and path are None if it is not there."""

    changed: bool
    manifest: dict[str, Any] | None
    path: Path | None


def present(shelf: Shelf, digest: str, check_mode: bool) -> Result | None:
    """The artifact made from *digest*, if it is there; made current if another one was."""
    manifest = shelf.find(digest)
    if manifest is None:
        return None
    current = shelf.current()
    if current is not None and current.name == digest:
        return Result(False, manifest, shelf.directory(digest))
    if not check_mode:
        shelf.select(digest)
    return Result(True, manifest, shelf.directory(digest))


def signed(result: Result, key: str | None, check_mode: bool) -> Result:
    """*result* with its manifest signed by *key*, if there is one; the signature appears whole, by rename."""
    if key is None or result.manifest is None or result.path is None or check_mode:
        return result
    place, text = result.path / signature.NAME, dump(result.manifest)
    made = signature.sign(text, Path(key))
    if place.is_file() and place.read_text(encoding="utf-8") == made:
        return result
    shelf = result.path.parent
    with writing(shelf), tempfile.TemporaryDirectory(dir=shelf, prefix=SIGNING) as scratch:
        new = Path(scratch, signature.NAME)
        new.write_text(made, encoding="utf-8")
        new.replace(place)
    return Result(True, result.manifest, result.path)


def signature_of(result: Result) -> str | None:
    """The signature that lies beside the artifact's manifest."""
    place = None if result.path is None else result.path / signature.NAME
    return place.read_text(encoding="utf-8") if place is not None and place.is_file() else None


def common(name: str, tree: Tree, abi: int, module: Path, backend: str = KPATCH) -> dict[str, Any]:
    """What the manifests of core module and patch modules have in common."""
    return {
        "format": FORMAT,
        "kind": "core" if name == CORE_NAME else "patch",
        "name": name,
        "module": module_name(name),
        "file": module.name,
        "backend": backend,
        # The one thing that is not of what it was made from: which of two builds is the newer.
        "serial": int(time.time()),
        "abi": abi,
        "kernel": {
            "release": tree.release,
            "build_id": tree.build_id,
            "vermagic": tree.vermagic,
            "arch": "x86_64",
            "package": tree.package,
        },
        "compiler": tree.compiler,
        "build_id": build_id(module),
        "sha256": file_sha256(module),
        "size": module.stat().st_size,
    }
