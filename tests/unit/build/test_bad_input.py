# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong from outside. If this breaks, an operator reads a traceback, or the store keeps something half made."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils.build import source_patch, tree
from ansible_collections.kpatch.fleet.plugins.module_utils.build.identity import Identity
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import BuildError, RefusedError
from ansible_collections.kpatch.fleet.plugins.module_utils.build.store import Shelf
from test_store import RELEASE, manifest

VERSION = "#1 SMP PREEMPT_DYNAMIC Debian 6.1.192-2 (2026-11-01)"
BINARY = "diff --git a/fs/x.c b/fs/x.c\nindex 1..2 100644\nGIT binary patch\nliteral 3\nKcmZQzWMT#Y01f~L\n\n"


@pytest.mark.parametrize("diff", [BINARY, "diff --git a/fs/x.c b/fs/x.c\nBinary files a/fs/x.c and b/fs/x.c differ\n"])
def test_a_binary_diff(diff: str) -> None:
    with pytest.raises(RefusedError, match=r"fs/x\.c: .*the diff is binary; only C source can be patched"):
        source_patch.parse(diff)


def test_symbols_of_another_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vmlinux = tmp_path / "vmlinux"
    vmlinux.write_bytes(b"Linux version 6.1.0 " + VERSION.encode())
    monkeypatch.setattr(tree, "build_id", lambda _path: "aa")
    tree._check_vmlinux(vmlinux, Identity(RELEASE, VERSION, "aa"), "")
    with pytest.raises(BuildError, match="of build aa, but build bb runs: survey again"):
        tree._check_vmlinux(vmlinux, Identity(RELEASE, VERSION, "bb"), "survey again")
    with pytest.raises(BuildError, match="does not call itself"):
        tree._check_vmlinux(vmlinux, Identity(RELEASE, VERSION.replace("192", "193"), "aa"), "")


def test_a_full_disk_publishes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf(tmp_path / "store", RELEASE, "some")
    module = tmp_path / "kpatch_some.ko"
    module.write_bytes(b"module")
    shelf.publish(manifest(module, "1" * 64), {module.name: module})

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(BuildError, match=r"No space left on device; the store is as it was; free space"):
        shelf.publish(manifest(module, "2" * 64), {module.name: module})
    assert sorted(path.name for path in shelf.path.iterdir()) == ["1" * 64, "current"]
    current = shelf.current()
    assert current is not None
    assert current.name == "1" * 64


@pytest.mark.parametrize("text", ["", "half a", "{}"])
def test_a_prepared_kernel_that_was_damaged_is_prepared_again(tmp_path: Path, text: str) -> None:
    root = tree.kernel_directory(tmp_path, RELEASE)
    root.mkdir(parents=True)
    (root / "kernel.json").write_text(text)
    assert tree.look(tmp_path, Identity(RELEASE, VERSION, "aa")) is None
