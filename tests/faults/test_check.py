# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check mode on a booted machine: the test's first line is what happens, the rest the invariant."""

from __future__ import annotations

from typing import Any

import pytest
from machine import DEMO, Machine

# Taint and modules, what both backends show, and each file on the disk and in /run with its size and time. Logs are
# written by whoever logs in, Ansible brings its modules to its own directory, and the root of an ssh session is its
# own; the kernel's count of references to the core module and its addresses are no business of check mode's.
SEEN = r"""
cat /proc/sys/kernel/tainted
sed 's/ .*//' /proc/modules
grep -rs '' /sys/kernel/kpatch /sys/kernel/livepatch /sys/module/kpatch*/srcversion
find / /run -xdev -regextype posix-extended \
    -regex '/(var/log|root/[.]ansible|run/(user|systemd|udev|log|utmp))(/.*)?' -prune -o -type f -printf '%p %s %T@\n'
"""
UPGRADE: dict[str, Any] = {"patches": ["demo-vlan", "oops"], "kpatch_drop": ["demo-meminfo"]}


def unchanged(machine: Machine, before: set[str]) -> None:
    """What has come and what is gone, since *before*, is nothing."""
    after = seen(machine)
    assert (after - before, before - after) == (set(), set())


def seen(machine: Machine) -> set[str]:
    """All that check mode could change there."""
    return set(machine.run(SEEN).splitlines())


@pytest.mark.fault("vm-check-mode")
def test_check_mode_leaves_a_kernel_alone(machine: Machine) -> None:
    """Rollout, upgrade and rollback run in check mode.
    They say what they would do; taint, modules, sysfs and files of the machine are what they were.
    """
    bare = seen(machine)
    status, text = machine.rollout(check=True, kpatch_boot=True)
    assert (status, "would do" in text) == (0, True)
    unchanged(machine, bare)
    assert machine.rollout(kpatch_boot=True)[0] == 0
    patched = seen(machine)
    assert len(patched - bare) > len(DEMO)
    status, text = machine.rollout(check=True, kpatch_boot=True, **UPGRADE)
    assert (status, "off: demo-meminfo" in text) == (0, True)
    unchanged(machine, patched)
    status, text = machine.play("rollback", check=True)
    assert (status, "changed=" in text) == (0, True)
    unchanged(machine, patched)
