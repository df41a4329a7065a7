# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's special sections in a patch module that the builder made: one patched function with all of them.

If these fail, a warning names the wrong line, a bad pointer that the original survives is an oops, an instruction
meant for another processor runs, or nobody can tell any more where a sleeping task is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from builder import Builder
from host import CORE, Host

FILE = "fs/proc/cmdline.c"
MODULE = "kpatch_special_sections"
TRACEPOINT = "/sys/kernel/tracing/events/kmem/mm_page_alloc/enable"

INCLUDES = """#include <linux/init.h>
#include <linux/atomic.h>
#include <linux/cpufeature.h>
#include <linux/delay.h>
#include <linux/sched/signal.h>
#include <linux/smp.h>
#include <linux/tracepoint-defs.h>
#include <linux/uaccess.h>

DECLARE_TRACEPOINT(mm_page_alloc);

static atomic_t calls = ATOMIC_INIT(0);
"""
OLD = "\tseq_puts(m, saved_command_line);\n"
BODY = """    int word = 0;

    seq_puts(m, saved_command_line);
    seq_printf(m, "\\ncpu %d\\n", raw_smp_processor_id());
    seq_printf(m, "fpu %d\\n", static_cpu_has(X86_FEATURE_FPU) ? 1 : 0);
    seq_printf(m, "la57 %d\\n", static_cpu_has(X86_FEATURE_LA57) ? 1 : 0);
    seq_printf(m, "fault %d\\n", get_kernel_nofault(word, (int *)8) ? 1 : 0);
    seq_printf(m, "traced %d\\n", tracepoint_enabled(mm_page_alloc) ? 1 : 0);
    cond_resched();
    if (atomic_inc_return(&calls) == 1)
        WARN_ON(1);
    atomic_inc(&calls);
    seq_printf(m, "calls %d", atomic_read(&calls));
    while (!strcmp(current->comm, "kpt-reader") && !signal_pending(current))
        msleep_interruptible(100);
""".replace("    ", "\t")


@pytest.fixture(scope="session")
def special(machine: Host, builder: Builder) -> Builder:
    """The builder, once it has built the patch and brought it to the machine."""
    builder.core()
    diff = builder.changes(FILE, {"#include <linux/init.h>\n": INCLUDES, OLD: BODY})
    result = builder.patch("special-sections", diff)
    assert result.path is not None
    machine.send(result.path.glob("*.ko"))
    return builder


@pytest.fixture
def patched(machine: Host, special: Builder) -> Iterator[Host]:
    """The kernel with that patch enabled; it warns once, which is what is wanted."""
    machine.load("kpatch")
    machine.load(MODULE)
    name = machine.known_as(MODULE)
    yield machine
    machine.run(f"pkill -x kpt-reader; echo 0 > {CORE}/patches/{name}/enabled && rmmod {name}")
    machine.clean()
    machine.run("dmesg --clear")


def shown(host: Host) -> dict[str, int]:
    """What the patched function says."""
    lines = host.read("/proc/cmdline").splitlines()[1:]
    return {name: int(value) for name, value in (line.split() for line in lines)}


def test_what_the_sections_are_for(patched: Host, special: Builder) -> None:
    first, second = shown(patched), shown(patched)
    # __ex_table, .altinstructions, per-cpu references; LA57 is no feature of the lab's processors.
    assert (first["fault"], first["fpu"], first["la57"]) == (1, 1, 0)
    assert first["cpu"] in range(64)
    # .smp_locks, on one processor or several: no count is lost.
    assert (first["calls"], second["calls"]) == (2, 4)
    # __bug_table: the line as the builder numbers it.
    log = patched.run("dmesg")
    # "WARNING: CPU: 0 PID: 1 at file:line function"; 7.2 says "WARNING: file:line at function".
    warnings = re.findall(r"WARNING: (?:CPU.* at )?(\S+):(\d+)(?: at)? (\S+)", log)
    lines = (special.tree.source / FILE).read_text(encoding="utf-8").splitlines()
    # The lines keep their numbers: counted is from the nearest one that the patch has left as it was.
    body = BODY.splitlines()
    below = body.index("\t\tWARN_ON(1);") - body.index(OLD.rstrip("\n"))
    line = lines.index(OLD.rstrip("\n")) + 1 + below
    assert [(file, int(number)) for file, number, _where in warnings] == [(FILE, line)]
    assert warnings[0][2].startswith("cmdline_proc_show+")
    assert MODULE in log
    assert not re.search(r"BUG:|Oops|general protection", log)


def test_a_jump_label_follows_its_key(patched: Host) -> None:
    patched.run("mountpoint -q /sys/kernel/tracing || mount -t tracefs nodev /sys/kernel/tracing")
    assert shown(patched)["traced"] == 0
    patched.run(f"echo 1 > {TRACEPOINT}")
    try:
        assert shown(patched)["traced"] == 1
    finally:
        patched.run(f"echo 0 > {TRACEPOINT}")
    assert shown(patched)["traced"] == 0


def test_a_stack_through_the_patched_function_is_whole(patched: Host) -> None:
    pid = int(
        patched.run(
            "ln -sf $(command -v cat) /run/kpt/kpt-reader\n"
            "/run/kpt/kpt-reader /proc/cmdline > /dev/null 2>&1 < /dev/null &\necho $!"
        )
    )
    patched.run(f"for i in $(seq 50); do grep -q ' S ' /proc/{pid}/stat && exit; sleep 0.1; done; exit 1")
    stack = patched.read(f"/proc/{pid}/stack")
    frames = [line.split()[-1] if "[" not in line.split()[-1] else line.split()[-2] for line in stack.splitlines()]
    names = [frame.split("+")[0] for frame in frames]
    assert "cmdline_proc_show" in names
    assert names.index("cmdline_proc_show") < names.index("seq_read_iter")
    assert names[-1].startswith("entry_SYSCALL_64")
    # The core reads it reliably too, and says who it is.
    assert not patched.set(patched.known_as(MODULE), 0)
    assert f"task kpt-reader:{pid} is in cmdline_proc_show of vmlinux" in patched.refusal()
