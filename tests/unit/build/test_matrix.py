# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is built for each kernel: the core module only where a patch may need it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils import side_by_side
from ansible_collections.kpatch.fleet.plugins.module_utils.build import core_module, patch_module
from ansible_collections.kpatch.fleet.plugins.module_utils.build.artifact import Result
from ansible_collections.kpatch.fleet.plugins.module_utils.build.identity import Identity
from ansible_collections.kpatch.fleet.plugins.modules import matrix_build

PATCHED_SET = {"leave": "patched_set", "switch": "thread"}


class Module:
    """As much of an AnsibleModule as a matrix needs."""

    check_mode = False

    def __init__(self, backends: list[str]) -> None:
        kernel = {"release": "6.1", "version": "#1", "build_id": "aa", "machine": "x86_64"}
        patch = {"source_text": "", **PATCHED_SET, "means": "stopping", "replace": False, "strict": False}
        self.params: dict[str, Any] = {
            "kernels": [{"label": "6.1", "kernel": kernel, "hosts": []}],
            "kernel_sources": [],
            "patches": [{**patch, "name": f"p{at}", "backend": one} for at, one in enumerate(backends)],
            "progress_file": None,
            "signing_key": None,
            "module_key": None,
            "module_certificate": None,
            "sources": {"core": {}, "patch": {}},
            "cache": "/cache",
            "store": "/store",
        }

    def log(self, line: str) -> None:
        pass


@pytest.mark.parametrize(
    ("backends", "built"),
    [
        (["livepatch", "livepatch"], ["p0", "p1"]),
        (["livepatch", "kpatch"], ["kpatch", "p0", "p1"]),
        (["auto"], ["kpatch", "p0"]),
        ([], ["kpatch"]),
    ],
)
def test_core_module_is_built_where_a_patch_may_need_it(
    monkeypatch: pytest.MonkeyPatch, backends: list[str], built: list[str]
) -> None:
    for kind in (core_module, patch_module):
        monkeypatch.setattr(kind, "build", lambda request, check_mode, say: Result(True, None, None))
    chains = matrix_build._Matrix(Module(backends)).chains()
    answers = [answer for chain in side_by_side.run(chains, 1) for answer in chain]
    assert [answer["name"] for answer in answers] == built


@pytest.mark.parametrize(("backend", "found"), [("livepatch", True), ("kpatch", False), ("auto", False)])
def test_patch_for_livepatch_is_linked_against_no_core_module(tmp_path: Path, backend: str, found: bool) -> None:
    kernel = Identity("6.1", "#1", "aa")
    request = patch_module.Request("some", "", PATCHED_SET, {}, kernel, tmp_path, tmp_path, backend)
    assert (patch_module.Core.find(request) is not None) is found
