# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of a real machine: each test's first line is the fault, its second the invariant."""

from __future__ import annotations

import os
import signal
import time

import pytest
from conftest import Machine

ALL = ["kpatch", "kpatch_demo_meminfo", "kpatch_demo_vlan"]


def wait_for(machine: Machine, text: str) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and text not in machine.ledger():
        time.sleep(0.2)


@pytest.mark.fault("vm-connection-cut")
def test_connection_cut_while_it_is_applied(machine: Machine) -> None:
    """The connection is cut while the patches are loaded.
    The host finishes what it began, and the rollout reads there what has become of it.
    """
    # Once the order is under way every session of sshd's is killed, our own included.
    machine.run(
        "cat > /run/cut <<'EOF'\nrm -f /run/kpatch.fleet.order.json\n"
        "while ! grep -qs '\"result\": null' /run/kpatch.fleet.order.json; do sleep 0.05; done\n"
        "pkill -f 'sshd: root@'\nEOF\n"
        "setsid sh /run/cut > /dev/null 2>&1 < /dev/null &"
    )
    status, text = machine.rollout()
    assert "UNREACHABLE" in text
    assert (status, machine.states()["state"], machine.modules()) == (0, "applied", ALL)


@pytest.mark.fault("vm-controller-killed")
def test_controller_killed_while_a_host_is_changed(machine: Machine) -> None:
    """The controller is killed while a host is changed.
    The host is all on or all off, the next run finishes it, and nothing is left locked.
    """
    process = machine.start("rollout")
    wait_for(machine, '"begin"')
    time.sleep(3)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    status, _text = machine.rollout()
    assert (status, machine.states()["state"], machine.modules()) == (0, "applied", ALL)


@pytest.mark.fault("vm-disk-full")
def test_full_disk(machine: Machine) -> None:
    """The host's disk is full.
    Nothing is loaded, and the reason names the place.
    """
    machine.run(
        "mkdir -p -m 700 /var/lib/kpatch.fleet && mount -t tmpfs -o size=64k,mode=700 none /var/lib/kpatch.fleet"
    )
    status, text = machine.rollout()
    assert (status, machine.states()["state"]) == (2, "apply-failed")
    assert "no-space: /var/lib/kpatch.fleet" in text
    # The core module is small enough to have been asked for first, and is refused as well.
    assert machine.modules() == []


@pytest.mark.fault("vm-read-only")
def test_read_only_disk(machine: Machine) -> None:
    """The host's disk is read-only.
    Nothing is loaded, and the reason names the place.
    """
    machine.run("mkdir -p -m 700 /var/lib/kpatch.fleet && mount -t tmpfs -o ro,mode=700 none /var/lib/kpatch.fleet")
    status, text = machine.rollout()
    assert (status, machine.modules()) == (2, [])
    assert "read-only: /var/lib/kpatch.fleet" in text


@pytest.mark.fault("vm-kprobe")
def test_probe_of_somebody_else(machine: Machine) -> None:
    """Somebody has a kprobe at the entry of a function that is to be replaced.
    Both work: the patch is on, and the probe still hits.
    """
    tracing = "/sys/kernel/tracing"
    machine.run(
        f"mount -t tracefs none {tracing} 2> /dev/null; echo 'p:ours meminfo_proc_show' > {tracing}/kprobe_events"
    )
    machine.run(f"echo 1 > {tracing}/events/kprobes/ours/enable")
    try:
        status, _text = machine.rollout()
        assert (status, machine.modules()) == (0, ALL)
        assert "KpatchDemo:" in machine.read("/proc/meminfo")
        assert int(machine.run(f"grep -c ours: {tracing}/trace; :")) > 0
    finally:
        machine.run(
            f"echo 0 > {tracing}/events/kprobes/ours/enable; echo > {tracing}/kprobe_events; echo > {tracing}/trace"
        )


@pytest.mark.fault("vm-panic-later")
def test_panic_after_success(machine: Machine) -> None:
    """The kernel panics seconds after it was patched well.
    The soak sees it: the host is lost, no later batch begins.
    """
    machine.run(
        "cat > /run/panic <<'EOF'\nwhile ! [ -e /sys/kernel/kpatch/patches/kpatch_demo_vlan ]; do sleep 0.2; done\n"
        "sleep 20; echo c > /proc/sysrq-trigger\nEOF\n"
        "setsid sh /run/panic > /dev/null 2>&1 < /dev/null &"
    )
    status, _text = machine.rollout({"soak": 60, "looks": 2})
    assert (status, machine.states()["state"]) == (2, "lost")


@pytest.mark.fault("vm-reboot")
def test_reboot(machine: Machine) -> None:
    """The host is rebooted after its rollout.
    With kpatch_boot the patches are on again, as these very bytes, and status finds nothing to say.
    """
    assert machine.rollout(kpatch_boot=True)[0] == 0
    boot = machine.read("/proc/sys/kernel/random/boot_id")
    machine.script("systemctl reboot")
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        time.sleep(10)
        done = machine.script("cat /proc/sys/kernel/random/boot_id; cat /sys/kernel/kpatch/patches/*vlan/enabled")
        if done.stdout.split()[:1] != [boot] and done.stdout.split()[1:] == ["1"]:
            break
    assert machine.modules() == ALL
    assert machine.script("test -e /var/lib/kpatch.fleet/boot.json").returncode != 0
