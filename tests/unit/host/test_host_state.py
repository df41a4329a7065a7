# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""If this breaks, what a kernel says is misread, and every decision after it is wrong."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils.host import kernel
from ansible_collections.kpatch.fleet.plugins.module_utils.host.errors import HostError
from ansible_collections.kpatch.fleet.plugins.module_utils.host.state import read_host


def test_a_host_with_nothing_of_ours(host: Any) -> None:
    state = read_host(host.root)
    assert state["kernel"]["release"] == "6.1.0-56-cloud-amd64"
    assert state["kernel"]["build_id"] == "ab" * 20
    assert state["kernel"]["machine"] == "x86_64"
    assert (state["core"], state["patches"], state["livepatches"], state["staged"]) == (None, [], [], [])


def test_an_enabled_patch(ready: Any) -> None:
    ready.transition("kpatch_a", "enabled", *ready.artifact("a")).reach()
    state = read_host(ready.root)
    assert state["core"]["abi"] == 1
    assert state["core"]["srcversion"] == "SRCcore"
    (patch,) = state["patches"]
    assert patch["consistency"] == {"leave": "patched_set", "switch": "kernel"}
    assert patch["enabled"]
    assert patch["window_ns"] == 435000
    functions = [{"name": "meminfo_proc_show", "sympos": 1}]
    assert patch["objects"] == [{"name": "vmlinux", "patched": True, "functions": functions}]
    assert state["staged"] == ["kpatch", "kpatch_a"]


def test_a_patch_module_that_is_not_registered_is_shown(ready: Any) -> None:
    ready.show_module("kpatch_stray", "S", "cd" * 20)
    (patch,) = read_host(ready.root)["patches"]
    assert (patch["registered"], patch["enabled"], patch["consistency"]) == (False, False, None)


def test_a_built_in_module_is_not_a_loaded_one(host: Any) -> None:
    (host.root / "sys/module/kpatch/parameters").mkdir(parents=True)
    assert read_host(host.root)["core"] is None


def test_livepatches_of_the_kernel(host: Any) -> None:
    host.show_livepatch("livepatch_x", "meminfo_proc_show")
    (patch,) = read_host(host.root)["livepatches"]
    assert patch["module"] == "livepatch_x"
    assert patch["enabled"]
    assert patch["objects"][0]["functions"] == [{"name": "meminfo_proc_show", "sympos": 1}]


@pytest.mark.parametrize(
    ("value", "flags"), [(0, []), (12288, ["O", "E"]), (45056, ["O", "E", "K"]), (1 << 25, ["#25"])]
)
def test_taint(value: int, flags: list[str]) -> None:
    assert kernel.taint(value)["flags"] == flags


@pytest.mark.parametrize(
    ("text", "mode"), [(None, "none"), ("[none] integrity", "none"), ("none [integrity] confidentiality", "integrity")]
)
def test_lockdown(text: str | None, mode: str) -> None:
    assert kernel.lockdown(text) == mode


def test_a_root_without_a_kernel_is_named(tmp_path: Any) -> None:
    with pytest.raises(HostError, match="osrelease"):
        read_host(tmp_path)


def test_tasks_that_hold_up_a_switch_are_told(ready: Any) -> None:
    ready.transition("kpatch_a", "enabled", *ready.artifact("a")).reach()
    (ready.root / "sys/kernel/kpatch/patches/kpatch_a/blocking").write_text("42 cat x meminfo_proc_show\n")
    assert read_host(ready.root)["patches"][0]["blocking"] == ["42 cat x meminfo_proc_show"]
