# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An artifact as the builder would leave it: its manifest, in which a test changes what it is about, and its place."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from ansible_collections.kpatch.fleet.plugins.module_utils import manifest as manifests


def kernel(release: str, build_id: str = "aa", vermagic: str = "v") -> dict[str, str]:
    """The one that an artifact is for."""
    return {"release": release, "build_id": build_id, "vermagic": vermagic, "arch": "x86_64", "package": "1"}


def manifest(name: str, image: bytes, of: dict[str, str], **changes: Any) -> dict[str, Any]:
    """That of the artifact *name* for the kernel *of*, whose module is *image*."""
    core = name == "kpatch"
    module = manifests.module_name(name)
    return {
        "format": 1,
        "kind": "core" if core else "patch",
        "name": name,
        "module": module,
        "file": f"{module}.ko",
        "backend": "kpatch",
        "abi": 1,
        "kernel": dict(of),
        "compiler": "gcc",
        "source_sha256": "0" * 64,
        "input_sha256": "1" * 64,
        "consistency": None if core else {"leave": "patched_set", "switch": "kernel"},
        "functions": [] if core else [{"object": "vmlinux", "name": f"{name}_show", "sympos": 1, "reason": "changed"}],
        "added": [],
        "srcversion": "ABC",
        "build_id": "cc",
        "sha256": hashlib.sha256(image).hexdigest(),
        "size": len(image),
        **changes,
    }


def put(store: Path, made: dict[str, Any], image: bytes) -> Path:
    """Have *store* hold the artifact as the current one of its name; returns its .ko."""
    place = store / made["kernel"]["release"] / made["name"] / made["input_sha256"]
    place.mkdir(parents=True, exist_ok=True)
    (place / "manifest.json").write_text(manifests.dump(made))
    file: Path = place / made["file"]
    file.write_bytes(image)
    current = place.parent / "current"
    current.unlink(missing_ok=True)
    current.symlink_to(place.name)
    return file
