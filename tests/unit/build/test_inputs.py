# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The input digest. If this breaks, a changed input gives the old artifact, or nothing is ever found again."""

from __future__ import annotations

import inspect
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils.build import core_module, patch_module
from ansible_collections.kpatch.fleet.plugins.module_utils.build.identity import Identity
from ansible_collections.kpatch.fleet.plugins.module_utils.build.inputs import (
    builder_version,
    input_digest,
    sources_digest,
)
from ansible_collections.kpatch.fleet.plugins.module_utils.build.tree import Tree

TREE = Tree(Path("/somewhere"), "6.1.0-1-amd64", "6.1-1", "ab", "gcc (Debian) 12", "v ", "c" * 64, "d" * 64)
CORE = patch_module.Core("e" * 64, {})
REQUEST = patch_module.Request(
    name="some",
    source="diff",
    consistency={"leave": "patched_set", "switch": "kernel"},
    sources={"kpatch.h": "#define KPATCH_ABI 1\n"},
    kernel=Identity("6.1.0-1-amd64", "v", "ab"),
    cache=Path("/cache"),
    store=Path("/store"),
)


def digest(tree: Tree = TREE, core: patch_module.Core = CORE, **changes: Any) -> str:
    request = replace(REQUEST, **changes)
    return input_digest(tree, patch_module._inputs(request, core))


def test_same_inputs_give_the_same_digest_wherever_they_are() -> None:
    assert digest() == digest(tree=TREE._replace(root=Path("/elsewhere")), cache=Path("/other"), store=Path("/s"))


def test_each_input_counts() -> None:
    digests = {
        digest(),
        digest(name="other"),
        digest(source="diff "),
        digest(consistency={"leave": "function", "switch": "kernel"}),
        digest(sources={"kpatch.h": "#define KPATCH_ABI 2\n"}),
        digest(core=patch_module.Core("f" * 64, {})),
        digest(tree=TREE._replace(build_id="ac")),
        digest(tree=TREE._replace(compiler="gcc (Debian) 13")),
        digest(tree=TREE._replace(config_sha256="0" * 64)),
        digest(tree=TREE._replace(symvers_sha256="0" * 64)),
    }
    assert len(digests) == 10


def test_file_borders_count() -> None:
    assert sources_digest({"a": "b", "c": ""}) != sources_digest({"a": "", "c": "b"})


def test_symvers_tells_nothing_of_where_it_was_built(tmp_path: Path) -> None:
    path = tmp_path / "Module.symvers"
    path.write_text(f"0x1\tkpatch_register\t{tmp_path}/kpatch\tEXPORT_SYMBOL_GPL\t\n")
    assert core_module._without_directory(tmp_path, path) == "0x1\tkpatch_register\tkpatch\tEXPORT_SYMBOL_GPL\t\n"


def test_one_thread_at_a_time_reads_the_builders_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's linecache loses what one thread reads when another one does so, too."""
    reading = threading.Lock()

    def read(module: ModuleType) -> str:
        assert reading.acquire(blocking=False), "two threads read at once"
        time.sleep(0.001)
        reading.release()
        return module.__name__

    monkeypatch.setattr(inspect, "getsource", read)
    with ThreadPoolExecutor(4) as pool:
        digests = {found.result() for found in [pool.submit(builder_version) for _number in range(4)]}
    assert len(digests) == 1
