# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""If these fail, a process that isn't the lab's is killed, or a VM of the lab goes on running."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils.lab import process


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A /proc with the process 77."""
    (tmp_path / "proc/77").mkdir(parents=True)
    return tmp_path / "proc"


def write_process(proc: Path, *argv: str) -> None:
    (proc / "77/cmdline").write_bytes(b"".join(word.encode() + b"\0" for word in argv))


@pytest.fixture
def pid_file(tmp_path: Path) -> Path:
    path = tmp_path / "web1/pid"
    path.parent.mkdir()
    path.write_text("77\n")
    return path


def test_a_qemu_that_wrote_this_pid_file_is_ours(proc: Path, pid_file: Path) -> None:
    write_process(proc, "/usr/bin/qemu-system-x86_64", "-pidfile", str(pid_file))
    assert process.owned(pid_file, proc) == 77


@pytest.mark.parametrize(
    "argv",
    [
        ["/usr/bin/qemu-system-x86_64", "-pidfile", "/elsewhere/web1/pid"],
        ["vim", "{pid_file}"],
        ["/usr/bin/qemu-system-x86_64", "-pidfile", "{pid_file}.old"],
        [""],
    ],
)
def test_any_other_process_is_not(proc: Path, pid_file: Path, argv: list[str]) -> None:
    write_process(proc, *[word.format(pid_file=pid_file) for word in argv])
    assert process.owned(pid_file, proc) is None


@pytest.mark.parametrize("content", ["", "x", "78"])
def test_a_useless_pid_file_names_nobody(proc: Path, pid_file: Path, content: str) -> None:
    write_process(proc, "qemu-system-x86_64", str(pid_file))
    pid_file.write_text(content)
    assert process.owned(pid_file, proc) is None


def test_a_vm_is_ended_and_its_pid_file_removed(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    script = "trap 'exit 0' TERM; while :; do sleep 0.1; done"
    argv = ["qemu-system-test", "-c", script, "-pidfile", str(pid_file)]
    with subprocess.Popen(argv, executable="/bin/bash") as child:
        pid_file.write_text(str(child.pid))
        while not Path(f"/proc/{child.pid}/cmdline").read_bytes().startswith(b"qemu-system-test"):
            time.sleep(0.01)
        assert process.terminate(pid_file)
        assert child.wait(5) is not None
    assert not pid_file.exists()
    assert not process.terminate(pid_file)
