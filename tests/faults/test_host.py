# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that can't take what it is given: each test's first line is the fault, the rest the invariant."""

from __future__ import annotations

import pytest
from machine import Machine

PLACE = "/var/lib/kpatch.fleet"


def give(machine: Machine, options: str) -> None:
    """A file system of its own for what is staged."""
    machine.run(f"mkdir -p -m 700 {PLACE} && mount -t tmpfs -o {options},mode=700 none {PLACE}")


@pytest.mark.fault("vm-disk-full")
def test_full_disk(machine: Machine) -> None:
    """The host's disk is full.
    Nothing is loaded, and the reason names the place.
    """
    give(machine, "size=64k")
    status, text = machine.rollout()
    assert (status, machine.state()) == (2, "apply-failed")
    assert f"no-space: {PLACE}" in text
    # The core module is small enough to have been asked for first, and is refused as well.
    assert machine.modules() == []


@pytest.mark.fault("vm-no-inodes")
def test_no_inodes(machine: Machine) -> None:
    """The host's disk has room, but no inodes.
    Nothing is loaded, nothing is left there, and the reason names the place.
    """
    give(machine, "nr_inodes=3")
    status, text = machine.rollout()
    assert (status, machine.state(), machine.modules()) == (2, "apply-failed", [])
    assert f"no-space: {PLACE}: there are no free inodes" in text
    assert machine.run(f"find {PLACE} -type f") == ""


@pytest.mark.fault("vm-read-only")
def test_read_only_disk(machine: Machine) -> None:
    """The host's disk is read-only.
    Nothing is loaded, and the reason names the place.
    """
    give(machine, "ro")
    status, text = machine.rollout()
    assert (status, machine.modules()) == (2, [])
    assert f"read-only: {PLACE}" in text


@pytest.mark.fault("vm-truncated-transfer")
def test_truncated_transfer(machine: Machine) -> None:
    """What is sent to the host arrives cut off.
    It is refused before the load, the reason names the file, and no patch is on.
    """
    server = "/usr/lib/openssh/sftp-server"
    machine.run(
        f"mv {server} {server}.whole\ncat > {server} <<'EOF'\n#!/bin/sh\n{server}.whole \"$@\"\n"
        f"truncate -s 4096 ~/.ansible/tmp/*/kpatch_demo_meminfo.ko 2> /dev/null\nEOF\nchmod 755 {server}"
    )
    try:
        status, _text = machine.rollout()
    finally:
        machine.run(f"mv {server}.whole {server}")
    assert (status, machine.state()) == (2, "apply-failed")
    assert machine.modules() in ([], ["kpatch"])
    assert "tampered: " in machine.report()["reason"]
    assert "kpatch_demo_meminfo.ko" in machine.report()["reason"]


@pytest.mark.fault("vm-no-python")
def test_no_python(machine: Machine) -> None:
    """The host has no Python.
    It counts as lost, nothing was tried on it, and the reason names the interpreter.
    """
    machine.run("mv /usr/bin/python3 /usr/bin/python3.away")
    try:
        status, text = machine.rollout()
    finally:
        machine.run("mv /usr/bin/python3.away /usr/bin/python3")
    assert (status, machine.state(), machine.modules()) == (2, "lost", [])
    assert "/usr/bin/python3" in machine.report()["reason"]
    assert '"begin"' not in machine.ledger()


@pytest.mark.fault("vm-clock-jumps")
def test_clock_of_the_host_jumps(machine: Machine) -> None:
    """The host's clock jumps a day ahead while the patches are loaded, and two days back while the batch is watched.
    The patch is on, and the rollout judges the host by what it is and not by its clock.
    """
    machine.later(
        "while ! [ -e /sys/kernel/kpatch/patches ]; do sleep 0.1; done\ndate -s '+1 day'\n"
        "while ! [ -e /sys/kernel/kpatch/patches/kpatch_demo_vlan_x* ]; do sleep 0.1; done\n"
        "sleep 5\ndate -s '-2 days'\n"
    )
    day = int(machine.run("date +%j"))
    checks = [{"name": "no errors", "errors": 0, "pattern": "I/O error"}]
    try:
        status, _text = machine.rollout({"soak": 10, "looks": 2, "checks": checks})
        assert (status, machine.state()) == (0, "applied")
        assert int(machine.run("date +%j")) != day
    finally:
        machine.run("date -s '+1 day'")
