# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's tracers and probes on a patched function.

If these fail, an operator who traces a patched function sees nothing, runs the old one, or crashes the host.
"""

from __future__ import annotations

import pytest
from host import Host

FUNCTION = "cmdline_proc_show"
# The kernel wants no name that is there twice, and the replacement has it too.
ADDRESS = f"0x$(awk '$3 == \"{FUNCTION}\" && !$4 {{print $1}}' /proc/kallsyms)"
TRACING = "/sys/kernel/tracing"

# How each is put on and taken off, and how often it has seen a call.
ON = {
    "function": f"echo {FUNCTION} > set_ftrace_filter; echo function > current_tracer",
    "function_graph": f"echo {FUNCTION} > set_ftrace_filter; echo function_graph > current_tracer",
    "kprobe": f"echo p:kpt_probe {ADDRESS} > kprobe_events; echo 1 > events/kprobes/kpt_probe/enable",
    "kretprobe": f"echo r:kpt_probe {ADDRESS} > kprobe_events; echo 1 > events/kprobes/kpt_probe/enable",
}
OFF = """
echo nop > current_tracer; echo > set_ftrace_filter
[ ! -e events/kprobes/kpt_probe ] || echo 0 > events/kprobes/kpt_probe/enable
echo > kprobe_events; echo > trace
"""


def tracing(host: Host, script: str) -> str:
    return host.run(f"mountpoint -q {TRACING} || mount -t tracefs nodev {TRACING}\ncd {TRACING}\n{script}")


def seen(host: Host) -> int:
    """How many calls have been traced since the last time."""
    return int(tracing(host, f"grep -cE '{FUNCTION}|kpt_probe' trace; echo > trace").split()[0])


def assert_both_seen(host: Host, original: str) -> None:
    """The patch is called, and once it is off the original; the tracer sees the calls of both."""
    assert host.read("/proc/cmdline") == "this is kpt_first"
    assert seen(host)
    assert host.set("kpt_first", 0)
    assert host.read("/proc/cmdline") == original
    assert seen(host)


@pytest.mark.parametrize("tracer", ON)
def test_traced_first(host: Host, tracer: str) -> None:
    original = host.read("/proc/cmdline")
    try:
        tracing(host, ON[tracer])
        host.load("kpt_first")
        assert_both_seen(host, original)
    finally:
        tracing(host, OFF)


@pytest.mark.parametrize("tracer", ON)
def test_patched_first(host: Host, tracer: str) -> None:
    original = host.read("/proc/cmdline")
    try:
        host.load("kpt_first")
        tracing(host, ON[tracer])
        assert_both_seen(host, original)
    finally:
        tracing(host, OFF)
