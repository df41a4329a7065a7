# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A corpus's machine that is lost. If this breaks, a run ends there, or what takes a machine down is called ok."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import booted
import pytest
from host import Host
from outcome import BUILT, Outcome

DONE = subprocess.CompletedProcess("sh", 0, "", "")


class Machines:
    """Starts machines that are lost, each or the first ones, while a module is brought to them."""

    def __init__(self, lost: int) -> None:
        self.lost, self.started, self.running = lost, 0, 0

    @contextmanager
    def start(self) -> Iterator[Any]:
        self.started += 1
        self.running += 1
        host = mock.create_autospec(Host, instance=True)
        host.script.return_value, host.complaints.return_value = DONE, ""
        core = None  # what comes first, before any module
        gone = subprocess.TimeoutExpired("ssh", 180)
        host.send.side_effect = [core, gone if self.started <= self.lost else None, None]
        yield host
        self.running -= 1


@pytest.mark.parametrize(
    ("lost", "said", "started"),
    [
        (0, "ok", 1),
        (1, "ok", 2),
        (2, "the machine was lost with it: Command 'ssh' timed out after 180 seconds", 3),
    ],
)
def test_a_lost_machine_is_replaced(
    lost: int, said: str, started: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    console = tmp_path / "serial.log"
    console.write_text("PANIC: double fault, error_code: 0x0\n")
    machines = Machines(lost)
    first, second = Outcome("fs/one.c", BUILT, module="one.ko"), Outcome("fs/two.c", BUILT, module="two.ko")
    with booted.Guest(machines.start, Path("kpatch.ko"), console) as guest:
        guest.try_module(first, "")
        guest.try_module(second, "")
        assert machines.running == 1
    assert capsys.readouterr().out.count("PANIC") == lost
    assert (first.booted, first.lost) == (said, lost)
    assert (second.booted, second.lost) == ("ok", 0)
    assert (machines.started, machines.running) == (started, 0)


def test_a_machine_that_is_lost_at_once_ends_the_run() -> None:
    host = mock.create_autospec(Host, instance=True)
    host.load.side_effect = AssertionError("corpus: insmod /run/kpt/kpatch.ko")
    with pytest.raises(SystemExit, match="lost before any module was tried.*insmod"):
        booted.Guest(lambda: nullcontext(host), Path("kpatch.ko"), Path("none")).__enter__()
