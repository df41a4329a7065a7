# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A look at a host, and a store with artifacts, in as few words as a test can say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import example_artifact

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
    made = example_artifact.manifest(name, b"ko", example_artifact.kernel(release), **{**IDENTITY, **values})
    return example_artifact.put(store, made, b"ko")
