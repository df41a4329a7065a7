# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""scripts/kernel_tests.py with something else in pytest's place: what it prints and returns, and how it is stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts/kernel_tests.py"

PYTEST = """#!/bin/sh
echo "lab $KPATCH_LAB"
echo "tests/kernel/test_one.py::test_one[$SERIES] PASSED [ 50%]"
case $SERIES in
7.2) echo "tests/kernel/test_one.py::test_two[7.2] FAILED [100%]"; echo "== 1 failed in 1s =="; exit 1 ;;
8.0) trap 'sleep 1; touch removed; exit 2' INT; touch begun; while :; do sleep 0.1; done ;;
esac
echo "== 2 passed in 1s =="
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """One in which pytest is the script above."""
    (tmp_path / "pytest").write_text(PYTEST, encoding="utf-8")
    (tmp_path / "pytest").chmod(0o755)
    return {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "KPATCH_LAB": "mine", "CPUS": "1"}


def run(environment: dict[str, str], directory: Path, series: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    command, environment = [sys.executable, str(SCRIPT)], {**environment, "SERIES": series}
    return subprocess.run(
        command, env=environment, cwd=directory, capture_output=True, text=True, timeout=60, check=False
    )


def test_closing_lines_are_told_and_each_series_has_its_own_lab(environment: dict[str, str], tmp_path: Path) -> None:
    """Of what passed nothing else is told."""
    done = run(environment, tmp_path, "6.1,6.12")
    assert done.returncode == 0
    assert set(done.stdout.splitlines()) == {"6.1: 2 passed in 1s", "6.12: 2 passed in 1s"}
    assert "lab mine-6-12\n" in (tmp_path / ".cache/kernel-tests/6.12.log").read_text(encoding="utf-8")


def test_a_failure_is_told_whole_and_is_the_exit_code(environment: dict[str, str], tmp_path: Path) -> None:
    """The other series passes, and that does not hide it."""
    done = run(environment, tmp_path, "7.2,6.1")
    assert done.returncode == 1
    assert "7.2: tests/kernel/test_one.py::test_two[7.2] FAILED [100%]\n" in done.stdout
    assert "lab mine-7-2\n" in done.stdout
    assert "6.1: 2 passed in 1s\n" in done.stdout


def test_the_same_series_twice_is_refused(environment: dict[str, str], tmp_path: Path) -> None:
    """They would be in each other's lab."""
    done = run(environment, tmp_path, "6.1,6.1")
    assert (done.returncode, done.stdout) == (1, "")
    assert "SERIES is '6.1,6.1'" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_waits_until_the_machines_are_gone(
    number: signal.Signals, environment: dict[str, str], tmp_path: Path
) -> None:
    """Pytest hears of it once, and takes its time."""
    command = [sys.executable, str(SCRIPT)]
    with subprocess.Popen(command, env={**environment, "SERIES": "8.0"}, cwd=tmp_path, stdout=subprocess.DEVNULL) as it:
        _until_there(tmp_path / "begun")
        it.send_signal(number)
        time.sleep(0.3)
        it.send_signal(number)
        assert it.wait(timeout=30) == 130
    assert (tmp_path / "removed").exists()


def test_machines_go_away_if_it_is_killed(environment: dict[str, str], tmp_path: Path) -> None:
    """Nobody is left to tell pytest but the kernel."""
    command = [sys.executable, str(SCRIPT)]
    with subprocess.Popen(command, env={**environment, "SERIES": "8.0"}, cwd=tmp_path, stdout=subprocess.DEVNULL) as it:
        _until_there(tmp_path / "begun")
        it.kill()
    _until_there(tmp_path / "removed")


def _until_there(path: Path) -> None:
    for _attempt in range(300):
        if path.exists():
            return
        time.sleep(0.1)
    raise AssertionError(f"{path} did not appear")
