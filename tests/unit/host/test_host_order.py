# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""If this breaks, a connection that is cut leaves a host half changed, or nobody learns what became of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils.host import order
from ansible_collections.kpatch.fleet.plugins.module_utils.host.errors import HostError

MODULE = "ansible_collections.kpatch.fleet.plugins.module_utils.host"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    (tmp_path / "proc").symlink_to("/proc")
    return tmp_path


def test_result_comes_back_and_is_kept(root: Path) -> None:
    assert order.read(root) is None
    assert order.carry_out("one", lambda: {"changed": True}, root) == {"changed": True}
    assert order.read(root) == {"order": "one", "running": False, "result": {"changed": True}}


def test_it_goes_on_when_all_of_the_connection_is_killed(root: Path) -> None:
    script = (
        f"import sys, time\nfrom pathlib import Path\nfrom {MODULE} import order\nroot = Path(sys.argv[1])\n"
        "def work():\n    (root / 'begun').touch()\n    time.sleep(1)\n    (root / 'done').touch()\n"
        "    return {'changed': True}\n"
        "order.carry_out('two', work, root)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(root)], start_new_session=True) as process:
        while not (root / "begun").exists():
            time.sleep(0.02)
        seen = order.read(root)
        os.killpg(process.pid, signal.SIGHUP)
        os.killpg(process.pid, signal.SIGKILL)
    assert seen == {"order": "two", "running": True, "result": None}
    assert not (root / "done").exists()
    deadline = time.monotonic() + 20
    while (order.read(root) or {})["running"] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (root / "done").exists()
    assert order.read(root) == {"order": "two", "running": False, "result": {"changed": True}}


def test_what_goes_wrong_is_a_result(root: Path) -> None:
    def refuses() -> dict[str, Any]:
        raise HostError("busy", "a task is in the way")

    def breaks() -> dict[str, Any]:
        raise KeyError("x")

    assert order.carry_out("a", refuses, root)["reason"] == "busy"
    assert "KeyError: 'x' (test_host_order.py, line" in order.carry_out("b", breaks, root)["msg"]


def test_process_that_was_killed_has_no_result(root: Path) -> None:
    def dies() -> dict[str, Any]:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("it is alive")

    done = order.carry_out("a", dies, root)
    assert (done["failed"], "was killed" in done["msg"]) == (True, True)
    deadline = time.monotonic() + 20
    while (order.read(root) or {})["running"] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert order.read(root) == {"order": "a", "running": False, "result": None}


def test_nothing_is_done_if_the_order_can_not_be_kept(tmp_path: Path) -> None:
    def does() -> dict[str, Any]:
        (tmp_path / "work/done").touch()
        return {}

    (tmp_path / "work").mkdir()
    done = order.carry_out("a", does, tmp_path / "work")
    assert (done["failed"], (tmp_path / "work/done").exists()) == (True, False)


@pytest.mark.parametrize("text", ["", "[]", "{", '"x"'])
def test_file_that_is_no_order(root: Path, text: str) -> None:
    (root / "run/kpatch.fleet.order.json").write_text(text)
    assert order.read(root) is None
