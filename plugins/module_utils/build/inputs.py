# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The input digest: the sha256 over everything that an artifact is made from, known before it is made."""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
import threading
from collections.abc import Mapping
from typing import Any

from ansible_collections.kpatch.fleet.plugins.module_utils.build.tree import Tree

_PACKAGE = "ansible_collections.kpatch.fleet.plugins.module_utils.build."
# Python keeps what it has read of modules in one place (linecache), and loses it when two threads read at once.
_READING = threading.Lock()


def builder_version() -> str:
    """The digest of the builder's own code, as far as it is loaded: all of it, since nothing is imported late."""
    digest = hashlib.sha256()
    with _READING:
        for name in sorted(name for name in sys.modules if name.startswith(_PACKAGE)):
            digest.update(f"{name}\0{inspect.getsource(sys.modules[name])}\0".encode())
    return digest.hexdigest()


def kernel_inputs(tree: Tree) -> dict[str, str]:
    """What of a kernel goes into an artifact."""
    return {
        "release": tree.release,
        "package": tree.package,
        "build_id": tree.build_id,
        "compiler": tree.compiler,
        "vermagic": tree.vermagic,
        "config": tree.config_sha256,
        "symvers": tree.symvers_sha256,
    }


def input_digest(tree: Tree, inputs: Mapping[str, Any]) -> str:
    """The digest over the kernel, the builder and *inputs*, which JSON can express."""
    everything = {"kernel": kernel_inputs(tree), "builder": builder_version(), **inputs}
    text = json.dumps(everything, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def sources_digest(sources: Mapping[str, str]) -> str:
    """The digest over files, by path."""
    digest = hashlib.sha256()
    for path, text in sorted(sources.items()):
        digest.update(f"{path}\0{len(text)}\0{text}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
