# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Somebody else has a hand on the function: each test's first line is the fault, the rest the invariant."""

from __future__ import annotations

from pathlib import Path

import pytest
from machine import ALL, Machine

TRACING = "/sys/kernel/tracing"


@pytest.fixture
def tracing(machine: Machine) -> Machine:
    machine.run(f"mountpoint -q {TRACING} || mount -t tracefs none {TRACING}")
    return machine


@pytest.mark.fault("vm-kprobe")
def test_probe_of_somebody_else(tracing: Machine) -> None:
    """Somebody has a kprobe at the entry of a function that is to be replaced.
    Both work: the patch is on, and the probe still hits.
    """
    tracing.run(f"echo 'p:ours meminfo_proc_show' > {TRACING}/kprobe_events")
    tracing.run(f"echo 1 > {TRACING}/events/kprobes/ours/enable")
    try:
        status, _text = tracing.rollout()
        assert (status, tracing.modules()) == (0, ALL)
        assert "KpatchDemo:" in tracing.read("/proc/meminfo")
        assert int(tracing.run(f"grep -c ours: {TRACING}/trace; :")) > 0
    finally:
        tracing.run(
            f"echo 0 > {TRACING}/events/kprobes/ours/enable; echo > {TRACING}/kprobe_events; echo > {TRACING}/trace"
        )


@pytest.mark.parametrize("tracer", ["function", "function_graph"])
@pytest.mark.fault("vm-tracer")
def test_tracer_of_somebody_else(tracing: Machine, tracer: str) -> None:
    """Somebody traces a function that is to be replaced, by the function or the function_graph tracer.
    Both work: the patch is on, the tracer still sees the calls, and the patch comes off again.
    """
    tracing.run(f"cd {TRACING} && echo meminfo_proc_show > set_ftrace_filter && echo {tracer} > current_tracer")
    try:
        status, _text = tracing.rollout()
        assert (status, tracing.modules()) == (0, ALL)
        tracing.run(f"echo > {TRACING}/trace")
        assert "KpatchDemo:" in tracing.read("/proc/meminfo")
        assert "meminfo_proc_show" in tracing.run(f"grep -v '^#' {TRACING}/trace")
        status, _text = tracing.play("rollback")
        assert (status, tracing.modules()) == (0, [])
        assert "KpatchDemo:" not in tracing.read("/proc/meminfo")
    finally:
        tracing.run(f"cd {TRACING} && echo nop > current_tracer && echo > set_ftrace_filter && echo > trace")


@pytest.mark.fault("vm-foreign-patch")
def test_live_patch_of_somebody_else(spent: Machine, tmp_path: Path) -> None:
    """The kernel's own livepatch has replaced a function that is to be replaced, for somebody else.
    The host is left alone as foreign-patch, the reason names that patch and the function, and it stays on.
    """
    ours = next((spent.store / spent.run("uname -r").strip() / "theirs").glob("current/*.ko"))
    theirs = tmp_path / "vendors_theirs.ko"
    # In the structure that the kernel reads, and in its own names: as long as ours, but not of our kind.
    theirs.write_bytes(ours.read_bytes().replace(b"kpatch_theirs", b"vendor_theirs"))
    spent.send([theirs])
    spent.run("insmod /run/kpt/vendors_theirs.ko")
    (name,) = spent.run("ls /sys/kernel/livepatch").split()
    assert name.startswith("vendor_theirs_x")
    status, _text = spent.rollout()
    assert (status, spent.state(), spent.modules()) == (2, "foreign-patch", [])
    assert f"{name} holds vmlinux:meminfo_proc_show" in spent.report()["reason"]
    assert spent.read(f"/sys/kernel/livepatch/{name}/enabled") == "1"
    assert '"begin"' not in spent.ledger()
