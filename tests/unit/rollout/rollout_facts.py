# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A look at a host, and a store with artifacts, in as few words as a test can say."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from ansible_collections.kpatch.fleet.plugins.module_utils import manifest

RELEASE = "6.1.0-1"
IDENTITY = {"srcversion": "ABC", "build_id": "cc"}


def look(*modules: str, **kernel: Any) -> dict[str, Any]:
    """The result of host_info on a host with these modules on, as the store has them."""
    facts = {"release": RELEASE, "build_id": "aa", "boot_id": "one", "taint": {"value": 0, "flags": ""}, **kernel}
    patches = [{"module": name, "enabled": True, "transition": False, **IDENTITY} for name in modules]
    core = next((patch for patch in patches if patch["module"] == "kpatch"), None)
    rest = [patch for patch in patches if patch["module"] != "kpatch"]
    return {"host": {"kernel": facts, "core": core, "patches": rest, "livepatches": [], "staged": []}}


LOST = {"unreachable": True, "msg": "Task failed: no route"}


def put(store: Path, name: str, release: str = RELEASE, **values: Any) -> Path:
    """An artifact in the store; returns its .ko."""
    module = manifest.module_name(name)
    made = {
        "format": 1,
        "kind": "core" if name == "kpatch" else "patch",
        "name": name,
        "module": module,
        "file": f"{module}.ko",
        "backend": "kpatch",
        "abi": 1,
        "kernel": {"release": release, "build_id": "aa", "vermagic": "v", "arch": "x86_64", "package": "1"},
        "compiler": "gcc",
        "source_sha256": "0" * 64,
        "input_sha256": "1" * 64,
        "consistency": None if name == "kpatch" else {"leave": "patched_set", "switch": "kernel"},
        "functions": [{"object": "vmlinux", "name": f"{name}_show", "sympos": 1, "reason": "changed"}],
        "added": [],
        "sha256": hashlib.sha256(b"ko").hexdigest(),
        "size": 2,
        **IDENTITY,
        **values,
    }
    place = store / release / name / made["input_sha256"]
    place.mkdir(parents=True)
    image: Path = place / made["file"]
    image.write_bytes(b"ko")
    (place / "manifest.json").write_text(manifest.dump(made))
    (place.parent / "current").unlink(missing_ok=True)
    (place.parent / "current").symlink_to(place.name)
    return image
