# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller and the connection go away: each test's first line is the fault, the rest the invariant."""

from __future__ import annotations

import os
import signal
import time

import pytest
from machine import ALL, Machine


def wait_for(machine: Machine, text: str) -> None:
    """Until the newest ledger holds *text*."""
    deadline = time.monotonic() + 300
    while text not in machine.ledger():
        assert time.monotonic() < deadline, f"the ledger does not hold {text!r}: {machine.ledger()}"
        time.sleep(0.2)


@pytest.mark.fault("vm-connection-cut")
def test_connection_cut_while_it_is_applied(machine: Machine) -> None:
    """The connection is cut while the patches are loaded.
    The host finishes what it began, and the rollout reads there what has become of it.
    """
    # Once the order is under way every session of sshd's is killed, our own included.
    machine.run("rm -f /run/kpatch.fleet.order.json")
    machine.later(
        "while ! grep -qs '\"result\": null' /run/kpatch.fleet.order.json; do sleep 0.05; done\npkill -f 'sshd: root@'"
    )
    status, text = machine.rollout()
    assert "UNREACHABLE" in text
    assert (status, machine.state(), machine.modules()) == (0, "applied", ALL)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["kill", "term"])
@pytest.mark.fault("vm-controller-killed")
def test_controller_killed_while_a_host_is_changed(machine: Machine, number: signal.Signals) -> None:
    """The controller is killed by SIGKILL, or ended by SIGTERM, while a host is changed.
    The host is all on or all off, the next run finishes it, and nothing is left locked.
    """
    process = machine.start("rollout")
    wait_for(machine, '"begin"')
    time.sleep(3)
    (os.killpg if number == signal.SIGKILL else os.kill)(process.pid, number)
    process.communicate(timeout=120)
    assert process.returncode != 0
    status, _text = machine.rollout()
    assert (status, machine.state(), machine.modules()) == (0, "applied", ALL)
