# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel breaks down: each test's first line is the fault, the rest the invariant."""

from __future__ import annotations

import pytest
from machine import ALL, WHILE_LOADED, Machine


def was_lost(machine: Machine) -> bool:
    """Whether a rollout lost the machine. One that boots quickly is there, with nothing on, when it is taken back."""
    found = machine.report()
    return found["state"] == "lost" or (found["state"] == "absent" and "it was lost: " in found["reason"])


@pytest.mark.fault("vm-panic-in-load")
def test_panic_while_it_is_loaded(machine: Machine) -> None:
    """The kernel panics while a patch is being loaded.
    The host counts as lost. It comes back without patches, and the next rollout puts them on.
    """
    machine.later(f"{WHILE_LOADED}\necho c > /proc/sysrq-trigger")
    before = machine.console_size()
    status, _text = machine.rollout(kpatch_boot=True)
    assert "sysrq triggered crash" in machine.console(before)
    assert (status, was_lost(machine)) == (2, True)
    machine.power_cycle()
    assert machine.modules() == []
    status, _text = machine.rollout()
    assert (status, machine.state(), machine.modules()) == (0, "applied", ALL)


@pytest.mark.fault("vm-panic-later")
def test_panic_after_success(machine: Machine) -> None:
    """The kernel panics 20 s after it was patched well.
    The soak sees it: the host counts as lost, no later batch begins.
    """
    machine.later(
        "while ! [ -e /sys/kernel/kpatch/patches/kpatch_demo_vlan_x* ]; do sleep 0.2; done\n"
        "sleep 20; echo c > /proc/sysrq-trigger"
    )
    status, _text = machine.rollout({"soak": 60, "looks": 2})
    assert (status, was_lost(machine)) == (2, True)


@pytest.mark.fault("vm-oops-later")
def test_oops_after_success(spent: Machine) -> None:
    """A patch makes the kernel oops once it is on; the kernel had been tainted by a warning before.
    The new oops counts, the reason says so, and the patch is taken off again.
    """
    spent.run("echo 512 > /proc/sys/kernel/tainted")
    spent.later(
        "cp $(command -v cat) /run/oopser\n"
        "while ! grep -qs 1 /sys/kernel/kpatch/patches/kpatch_oops_x*/enabled; do sleep 0.2; done\n"
        "sleep 8; /run/oopser /proc/uptime"
    )
    status, text = spent.rollout({"soak": 40, "looks": 2}, patches=["oops"])
    assert "RIP: 0010:uptime_proc_show" in spent.run("dmesg")
    assert (status, spent.state()) == (2, "absent")
    assert "it was needs-check" in spent.report()["reason"]
    assert "its kernel has oopsed 1 time" in spent.report()["reason"]
    assert "its kernel has new taint flags: D" in spent.report()["reason"]
    assert "vm: taken back\n" in text
    assert spent.modules() == []


@pytest.mark.fault("vm-oops-after-upgrade")
def test_oops_after_an_upgrade(spent: Machine) -> None:
    """A patch set is replaced by one that lacks one of its patches and has a new one, which makes the kernel oops.
    The first set is on again, as the very builds that ran before, and status finds nothing to say.
    """
    assert spent.rollout()[0] == 0
    before = spent.builds()
    spent.later(
        "cp $(command -v cat) /run/oopser\n"
        "while ! grep -qs 1 /sys/kernel/kpatch/patches/kpatch_oops_x*/enabled; do sleep 0.2; done\n"
        "while [ -e /sys/module/kpatch_demo_meminfo_x* ]; do sleep 0.2; done\n"
        "sleep 8; /run/oopser /proc/uptime"
    )
    status, text = spent.rollout({"soak": 40, "looks": 2}, patches=["demo-vlan", "oops"], kpatch_drop=["demo-meminfo"])
    assert "off: demo-meminfo (not in the set any more), on vm" in text
    assert "RIP: 0010:uptime_proc_show" in spent.run("dmesg")
    assert (status, spent.state()) == (2, "restored")
    assert "its kernel has oopsed 1 time" in spent.report()["reason"]
    assert (spent.modules(), spent.builds()) == (ALL, before)
    assert spent.play("status")[0] == 0


@pytest.mark.fault("vm-tainted-before")
def test_taint_from_before(spent: Machine) -> None:
    """The kernel is tainted before the rollout: it has warned, it died, and a module was forced.
    That is its baseline: the rollout goes on, and what is on is told with these flags.
    """
    spent.run("echo $((512 | 128 | 2)) > /proc/sys/kernel/tainted")
    status, _text = spent.rollout({"soak": 4, "looks": 1})
    assert (status, spent.state(), spent.modules()) == (0, "applied", ALL)
    assert int(spent.read("/proc/sys/kernel/tainted")) & 642 == 642
