# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Our patches in the kernel's own livepatch. If this breaks, they are taken for somebody else's, or for the core's."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils.host import preflight
from ansible_collections.kpatch.fleet.plugins.module_utils.host.errors import HostError
from ansible_collections.kpatch.fleet.plugins.module_utils.host.patches import read_livepatches, read_patch
from ansible_collections.kpatch.fleet.plugins.module_utils.host.stuck import stuck_tasks

MODULE = "kpatch_demo"


def show(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text + "\n")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    show(tmp_path, f"sys/module/{MODULE}/initstate", "live")
    show(tmp_path, f"sys/kernel/livepatch/{MODULE}/enabled", "1")
    show(tmp_path, f"sys/kernel/livepatch/{MODULE}/transition", "1")
    show(tmp_path, f"sys/kernel/livepatch/{MODULE}/vmlinux/patched", "1")
    show(tmp_path, "sys/kernel/livepatch/foreign/enabled", "1")
    return tmp_path


def test_ours_is_a_patch_and_only_others_are_foreign(root: Path) -> None:
    patch = read_patch(root, MODULE)
    assert patch is not None
    assert (patch["backend"], patch["registered"], patch["enabled"], patch["transition"]) == (
        "livepatch",
        True,
        True,
        True,
    )
    assert patch["consistency"] == {"leave": "patched_set", "switch": "thread"}
    assert [patch["module"] for patch in read_livepatches(root)] == ["foreign"]


def test_one_that_was_disabled_is_known_by_not_using_the_core(root: Path) -> None:
    for name in ("enabled", "transition", "vmlinux/patched"):
        (root / f"sys/kernel/livepatch/{MODULE}" / name).unlink()
    (root / f"sys/kernel/livepatch/{MODULE}/vmlinux").rmdir()
    (root / f"sys/kernel/livepatch/{MODULE}").rmdir()
    patch = read_patch(root, MODULE)
    assert patch is not None
    assert (patch["backend"], patch["registered"], bool(patch["enabled"])) == ("livepatch", False, False)
    (root / f"sys/module/kpatch/holders/{MODULE}").mkdir(parents=True)
    patch = read_patch(root, MODULE)
    assert patch is not None
    assert patch["backend"] == "kpatch"


def test_a_kernel_without_livepatch_is_told_before_the_load() -> None:
    manifest = {"backend": "livepatch", "module": MODULE}
    preflight.check_livepatch({"livepatch": True}, manifest)
    with pytest.raises(HostError, match="backend kpatch"):
        preflight.check_livepatch({"livepatch": False}, manifest)
    preflight.check_core({"core": None}, {**manifest, "kind": "patch"})


def test_who_is_in_the_way(tmp_path: Path) -> None:
    for pid, state in ((7, "0"), (8, "1"), (9, "-1")):
        show(tmp_path, f"proc/{pid}/task/{pid}/patch_state", state)
        show(tmp_path, f"proc/{pid}/task/{pid}/comm", f"task{pid}")
    calls = ["pipe_read", "vfs_read", "ksys_read", "do_syscall_64", "entry_SYSCALL_64_after_hwframe"]
    show(tmp_path, "proc/7/task/7/stack", "\n".join(f"[<0>] {name}+0x1a/0x2b" for name in calls))
    assert (
        stuck_tasks(tmp_path, enabling=True)
        == "not yet switched: task7 (pid 7) in pipe_read < vfs_read < ksys_read < do_syscall_64"
    )
    assert stuck_tasks(tmp_path, enabling=False) == "not yet switched: task8 (pid 8)"
    assert stuck_tasks(tmp_path / "nothing", enabling=True) == ""
