# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reboots: each test's first line is the fault, the rest the invariant."""

from __future__ import annotations

import time

import pytest
from machine import ALL, WHILE_LOADED, Machine

UNIT = "kpatch-fleet-boot.service"
_SETTLED = 60


@pytest.fixture
def persistent(machine: Machine) -> Machine:
    """The machine, patched, with the unit that puts the patches on again at each boot."""
    assert machine.rollout(kpatch_boot=True)[0] == 0
    return machine


def unit_says(machine: Machine, text: str) -> None:
    """Wait until the unit's journal of this boot holds *text*."""
    deadline = time.monotonic() + _SETTLED
    while text not in (said := machine.run(f"journalctl -b -o cat -u {UNIT}")):
        assert time.monotonic() < deadline, f"{UNIT} does not say {text!r} but: {said}"
        time.sleep(1)


@pytest.mark.fault("vm-reboot")
def test_reboot(persistent: Machine) -> None:
    """The host is rebooted after its rollout.
    With kpatch_boot the patches are on again, as these very bytes, and status finds nothing to say.
    """
    boot, before = persistent.boot_id(), persistent.console_size()
    persistent.script("systemctl reboot")
    persistent.wait_for_boot(before)
    assert persistent.boot_id() != boot
    unit_says(persistent, f"on again are {', '.join(ALL)}")
    assert persistent.modules() == ALL
    assert persistent.play("status")[0] == 0
    assert persistent.script("test -e /var/lib/kpatch.fleet/boot.json").returncode != 0


@pytest.mark.fault("vm-boot-switched-off")
def test_boot_with_the_switch(persistent: Machine) -> None:
    """The host is rebooted with kpatch.fleet=off on its command line.
    No patch is on, and status says that it is not as wanted.
    """
    persistent.power_cycle("kpatch.fleet=off")
    unit_says(persistent, "kpatch.fleet=off")
    assert persistent.modules() == []
    assert persistent.play("status")[0] != 0


@pytest.mark.fault("vm-other-kernel")
def test_reboot_into_another_kernel(persistent: Machine) -> None:
    """The host is rebooted into another kernel.
    Nothing is loaded into it; status, rollout and the host itself say that this kernel needs a build.
    """
    persistent.power_cycle(series="6.12" if persistent.golden.series == "6.1" else "6.1")
    unit_says(persistent, "this kernel needs a build and a rollout")
    assert persistent.modules() == []
    status, _text = persistent.rollout()
    assert (status, persistent.state(), persistent.modules()) == (2, "needs-build", [])
    persistent.wake()


@pytest.mark.fault("vm-crash-loop")
def test_crash_loop_at_boot(persistent: Machine) -> None:
    """The kernel panics at each boot once the patches are on.
    After three such boots nothing is loaded any more, the host comes up and says why, and the next rollout may try.
    """
    persistent.run(
        "cat > /etc/systemd/system/crash.service <<'EOF'\n"
        "[Service]\nExecStart=/bin/sh -c 'while ! [ -e /sys/kernel/kpatch/patches/kpatch_demo_vlan_x* ]; "
        "do sleep 0.2; done; echo c > /proc/sysrq-trigger'\nEOF\n"
        "ln -sf /etc/systemd/system/crash.service /etc/systemd/system/multi-user.target.wants/crash.service"
    )
    before = persistent.console_size()
    persistent.power_cycle("panic=1")
    deadline = time.monotonic() + 900
    while persistent.console(before).count("sysrq triggered crash") < 3:
        assert time.monotonic() < deadline, persistent.console(before)[-2000:]
        time.sleep(1)
    persistent.wait_for_boot(persistent.console_size())
    unit_says(persistent, "the last 3 boots did not live through it")
    assert persistent.modules() == []
    persistent.run("systemctl stop crash; rm /etc/systemd/system/multi-user.target.wants/crash.service")
    assert persistent.rollout()[0] == 0
    assert persistent.script("test -e /var/lib/kpatch.fleet/boot.json").returncode != 0


@pytest.mark.fault("vm-reboot-mid-apply")
def test_reboot_while_it_is_applied(machine: Machine) -> None:
    """The host reboots while a patch is being loaded.
    It is lost; it comes back without patches, nothing is locked, and the next rollout puts them on.
    """
    machine.later(f"{WHILE_LOADED}\necho b > /proc/sysrq-trigger")
    boot, before = machine.boot_id(), machine.console_size()
    status, _text = machine.rollout(kpatch_boot=True)
    assert status == 2
    assert '"state": "lost"' in machine.ledger()
    # If it is back by the time that its batch is taken back, there is nothing left to take.
    assert machine.state() in ("lost", "absent")
    machine.wait_for_boot(before)
    assert machine.boot_id() != boot
    assert machine.modules() == []
    assert machine.rollout()[0] == 0
    assert machine.modules() == ALL
