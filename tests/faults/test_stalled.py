# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A task sits in a function that is to be replaced: each test's first line is the fault, the rest the invariant."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from machine import Machine

# A parent that waits for its child to let go of its memory sleeps in kernel_clone() and minds no signal but a deadly
# one. The child waits to open a pipe that nobody writes to.
SLEEPER = "fault.parent"
PARENT = """
import os
wait = (os.POSIX_SPAWN_OPEN, 9, "/run/fault.pipe", os.O_RDONLY, 0)
os.posix_spawn("/bin/true", ["true"], {}, file_actions=[wait])
"""


@contextmanager
def sleeper(machine: Machine) -> Iterator[None]:
    """A task asleep in the function."""
    machine.run(
        f"mkfifo /run/fault.pipe; ln -s $(command -v python3) /run/{SLEEPER}\n"
        f"cat > /run/fault.py <<'EOF'\n{PARENT}\nEOF\n"
        f"setsid /run/{SLEEPER} /run/fault.py > /dev/null 2>&1 < /dev/null &\n"
        "for i in $(seq 100); do grep -qs kernel_clone /proc/$!/stack && exit; sleep 0.1; done\n"
        "cat /proc/$!/stack; exit 1"
    )
    try:
        yield
    finally:
        machine.run(f"echo > /run/fault.pipe; sleep 1; rm /run/fault.*; ! pgrep {SLEEPER}")


def nothing_is_on(machine: Machine) -> bool:
    return machine.modules() in ([], ["kpatch"]) and not machine.run("ls /sys/kernel/kpatch/patches 2> /dev/null; :")


@pytest.mark.fault("vm-stalled")
@pytest.mark.parametrize("patch", ["fork-thread", "fork-kernel"])
def test_switch_that_stalls(machine: Machine, patch: str) -> None:
    """A task that minds no signal sleeps in a function that is to be replaced, whatever the switch.
    No patch is on, the reason names the task and the function; once the task is gone the next rollout goes.
    """
    with sleeper(machine):
        status, text = machine.rollout(patches=[patch])
        assert (status, machine.state()) == (2, "apply-failed")
        assert SLEEPER in machine.report()["reason"]
        assert "kernel_clone" in machine.report()["reason"]
        assert nothing_is_on(machine)
    status, text = machine.rollout(patches=[patch])
    assert (status, machine.state()) == (0, "applied"), text


@pytest.mark.fault("vm-stalled-revert")
@pytest.mark.parametrize("patch", ["fork-thread", "fork-kernel"])
def test_revert_that_stalls(machine: Machine, patch: str) -> None:
    """A task that minds no signal sleeps in the new function when it is to be taken off.
    The host is stuck and all on, the reason names the task, nothing is forced; once it is gone the rollback goes.
    """
    assert machine.rollout(patches=[patch])[0] == 0
    with sleeper(machine):
        status, _text = machine.play("rollback", patches=[patch])
        assert (status, machine.state()) == (2, "stuck")
        assert SLEEPER in machine.report()["reason"]
        directory = f"/sys/kernel/kpatch/patches/kpatch_{patch.replace('-', '_')}_x*"
        assert machine.run(f"cat {directory}/enabled {directory}/transition").split() == ["1", "0"]
    status, _text = machine.play("rollback", patches=[patch])
    assert (status, machine.state(), machine.modules()) == (0, "absent", [])
