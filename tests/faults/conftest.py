# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One booted machine, with the patches that the faults need built for it, for what no simulated host can show."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Generator, Iterator

import pytest
from machine import CACHE, NAME, PATCHES, Machine, output, playbook

# Two runs at once need two labs.
LAB = os.environ.get("KPATCH_LAB", "faults")
_WENT_WRONG = pytest.StashKey[bool]()
SERIES = os.environ.get("SERIES", "6.1").split(",")[0]


def lab(state: str) -> None:
    values = {"lab_name": LAB, "lab_state": state, "lab_hosts": [{"name": NAME, "kernel": SERIES}]}
    process = playbook("lab", "localhost,", {**values, "kpatch_cache": str(CACHE)})
    text = output(process)
    assert process.returncode == 0, text


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    lab("absent")
    try:
        lab("present")
        home = tmp_path_factory.mktemp("home")
        # Its artifacts are named by all that they are made of: those of an earlier run are these very ones.
        store = CACHE / "faults/store"
        machine = Machine(CACHE / "lab" / LAB, home, store, tmp_path_factory.mktemp("ssh"))
        status, text = machine.play("build", kpatch_cache=str(CACHE), patches=list(PATCHES))
        assert status == 0, text
        yield machine
    finally:
        lab("absent")


@pytest.fixture
def machine(made: Machine, request: pytest.FixtureRequest) -> Iterator[Machine]:
    """The machine with nothing of ours on it; one that a fault has broken is made anew."""
    if _broken(made):
        made.wake()
    yield made
    _tell(made, request)


@pytest.fixture
def spent(machine: Machine, request: pytest.FixtureRequest) -> Iterator[Machine]:
    """The machine for a fault that leaves traces which nothing but a new machine takes away."""
    yield machine
    _tell(machine, request)
    machine.wake()


def _tell(machine: Machine, request: pytest.FixtureRequest) -> None:
    """After a test that has failed, what the machine is now; once."""
    if request.node.stash.get(_WENT_WRONG, False):
        request.node.stash[_WENT_WRONG] = False
        print(machine.told())


def _broken(machine: Machine) -> bool:
    try:
        machine.reset()
    except (AssertionError, subprocess.TimeoutExpired):
        return True
    return False


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Lets a fixture know that its test has failed."""
    report = yield
    if call.when == "call":
        item.stash[_WENT_WRONG] = report.failed
    return report
