# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lock between builders. If this breaks, a builder that waits for another looks as if it hung."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils.build import run, tree, waiting
from ansible_collections.kpatch.fleet.plugins.module_utils.build.identity import Identity


def test_who_waits_for_another_builder_says_so_and_then_goes_on(tmp_path: Path) -> None:
    said: list[str] = []
    waits, goes_on = threading.Event(), threading.Event()

    def say(line: str) -> None:
        said.append(line)
        waits.set()

    def second() -> None:
        with tree.locked(tmp_path, "6.1.0-1-amd64", say):
            goes_on.set()

    with tree.locked(tmp_path, "6.1.0-1-amd64", said.append):
        assert said == []
        thread = threading.Thread(target=second)
        thread.start()
        assert waits.wait(30)
        assert not goes_on.is_set()
    thread.join(30)
    assert goes_on.is_set()
    assert said == ["waiting for another builder, which is at work on kernel 6.1.0-1-amd64"]


KILLED = """
import sys
from pathlib import Path
from ansible_collections.kpatch.fleet.plugins.module_utils.build import run, waiting
with waiting.held(Path(sys.argv[1]), "a kernel", print):
    run.run(["sh", "-c", "kill -9 $PPID; read line < $0", sys.argv[2]])
"""


def test_what_a_killed_builder_has_started_is_waited_for(tmp_path: Path) -> None:
    """A tar that still unpacks a kernel's source fills the directory that the next builder removes."""
    path, goes_on = tmp_path / "lock", tmp_path / "goes-on"
    os.mkfifo(goes_on)
    killed = subprocess.run([sys.executable, "-c", KILLED, path, goes_on], check=False)
    assert killed.returncode == -signal.SIGKILL
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        goes_on.write_text("\n", encoding="ascii")

    with waiting.held(path, "a kernel", say):
        assert said == ["waiting for another builder, which is at work on a kernel"]


def test_what_another_thread_has_started_is_not_waited_for(tmp_path: Path) -> None:
    goes_on, said = tmp_path / "goes-on", list[str]()
    os.mkfifo(goes_on)

    def say(line: str) -> None:
        said.append(line)
        goes_on.write_text("\n", encoding="ascii")

    with ThreadPoolExecutor(1) as pool:
        with waiting.held(tmp_path / "lock", "a kernel", say):
            longer = pool.submit(run.run, ["sh", "-c", "echo > $0; read line < $0", goes_on])
            goes_on.read_text(encoding="ascii")
        with waiting.held(tmp_path / "lock", "a kernel", say):
            if not said:
                say("it has not waited")
        longer.result()
    assert said == ["it has not waited"]


def test_a_prepared_kernel_is_used_by_several_builders_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who only uses it has to wait for who prepares it, and not for who uses it, too."""
    kernel = Identity("6.1.0-1-amd64", "#1 SMP Debian 6.1.1-1 (2026-11-01)", "00")
    monkeypatch.setattr(tree, "look", lambda *_: "the tree")
    monkeypatch.setattr(tree, "ensure", lambda *_: "the tree")
    said: list[str] = []
    together = threading.Barrier(2, timeout=30)

    def use(_number: int) -> str:
        with tree.using(tmp_path, kernel, said.append) as found:
            together.wait()
            return str(found)

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(use, range(2))) == ["the tree", "the tree"]
    assert said == []


def test_two_builders_that_find_no_prepared_kernel_prepare_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = Identity("6.1.0-1-amd64", "#1 SMP Debian 6.1.1-1 (2026-11-01)", "00")
    trees: list[str] = []
    both_looked = threading.Barrier(2, timeout=30)
    first_look = threading.local()

    def look(*_: object) -> str | None:
        found = trees[0] if trees else None
        if not hasattr(first_look, "over"):
            first_look.over = True
            both_looked.wait()
        return found

    def ensure(*_: object) -> str:
        if not trees:
            trees.append("the tree")
        return trees[0]

    monkeypatch.setattr(tree, "look", look)
    monkeypatch.setattr(tree, "ensure", ensure)

    def use(_number: int) -> str:
        with tree.using(tmp_path, kernel, lambda _line: None) as found:
            return str(found)

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(use, range(2))) == ["the tree", "the tree"]
    assert trees == ["the tree"]
