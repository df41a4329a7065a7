# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What patch modules do of their own when an object is switched.

If these fail, a patch that can't work on a host is enabled there all the same, or data that its hooks prepare is
prepared twice, or never given back.
"""

from __future__ import annotations

from host import CORE, Host

EVENTS = "/sys/module/kpt_hooks/parameters/events"
PATCHED = "this is kpt_hooks"


def events(host: Host) -> str:
    """The hooks that were called since the last time; kmod/tests/hooks.c says how they are written."""
    return host.run(f"cat {EVENTS}; printf '' > {EVENTS}; echo > {EVENTS}").strip()


def refuse(host: Host, name: str) -> None:
    host.run(f"echo {name} > /sys/module/kpt_hooks/parameters/refuse")


def test_each_hook_is_called_once_and_in_order(target: Host) -> None:
    target.load("kpt_hooks")
    assert events(target) == "+v+kpvpk"
    assert target.set("kpt_hooks", 1)
    assert events(target) == ""
    assert target.set("kpt_hooks", 0)
    assert events(target) == "-v-kuvuk"
    assert target.set("kpt_hooks", 0)
    assert events(target) == ""
    assert target.set("kpt_hooks", 1)
    assert events(target) == "+v+kpvpk"


def test_a_refusal_at_registration(target: Host) -> None:
    original = target.read("/proc/cmdline")
    assert target.refused("kpt_hooks", "refuse=kpt_target") == "the pre_patch hook of kpt_hooks for kpt_target says -1"
    assert target.read("/proc/cmdline") == original
    # A hook may say what it likes: nothing that isn't an error lets a patch half in.
    assert target.refused("kpt_hooks", "refuse=vmlinux", "refuse_with=7").endswith("for vmlinux says 7")
    assert target.refused("kpt_hooks", "refuse=vmlinux", "refuse_with=-11").endswith("for vmlinux says -11")
    assert target.read("/proc/cmdline") == original


def test_a_refusal_when_it_is_enabled_again(target: Host) -> None:
    original = target.read("/proc/cmdline")
    target.load("kpt_hooks")
    assert target.set("kpt_hooks", 0)
    events(target)
    refuse(target, "kpt_target")
    assert not target.set("kpt_hooks", 1)
    # The first object's pre_patch is undone; the second's has done nothing.
    assert events(target) == "+v!kuv"
    assert target.read("patches/kpt_hooks/enabled") == "0"
    assert target.read("/proc/cmdline") == original
    refuse(target, "")
    assert target.set("kpt_hooks", 1)
    assert target.read("/proc/cmdline") == PATCHED


def test_a_module_that_comes_and_goes(host: Host) -> None:
    host.load("kpt_hooks")
    assert events(host) == "+vpv"
    host.load("kpt_target")
    assert events(host) == "+kpk"
    host.unload("kpt_target")
    assert events(host) == "-kuk"
    refuse(host, "kpt_target")
    assert host.refused("kpt_target") == "the pre_patch hook of kpt_hooks for kpt_target says -1"
    assert events(host) == "!k"
    assert host.read("patches/kpt_hooks/kpt_target/patched") == "0"
    assert host.read("/proc/cmdline") == PATCHED


def test_what_was_prepared_is_given_back_when_a_task_is_in_the_way(target: Host) -> None:
    target.load("kpt_hooks")
    assert target.set("kpt_hooks", 0)
    events(target)
    target.sleep_in_target()
    assert not target.set("kpt_hooks", 1)
    assert events(target) == "+v+kuvuk"


# A debugger holds it in the kernel.
_HELD = """python3 -c '
import ctypes, os, signal, time
child = os.fork()
if child == 0:
    ctypes.CDLL(None).ptrace(0, 0, 0, 0)
    os.kill(os.getpid(), signal.SIGSTOP)
os.waitpid(child, 0)
open("/run/kpt/held", "w").close()
time.sleep(1000)
' > /dev/null 2>&1 < /dev/null &
echo $! > /run/kpt/holder
for attempt in $(seq 100); do [ -e /run/kpt/held ] && exit; sleep 0.2; done; exit 1
"""
_SWITCH = f"""
echo 60000 > {CORE}/deadline_ms
echo {{value}} > {CORE}/patches/kpt_hooks/enabled & writer=$!
for attempt in $(seq 100); do [ $(cat {CORE}/patches/kpt_hooks/transition) = 1 ] && break; sleep 0.1; done
insmod /run/kpt/kpt_target.ko
echo {{back}} > {CORE}/patches/kpt_hooks/enabled
echo 2000 > {CORE}/deadline_ms
! wait $writer
"""


def test_a_module_that_comes_during_a_transition_that_fails(host: Host) -> None:
    host.run(f"echo 2000 > {CORE}/deadline_ms")
    host.load("kpt_hooks", "leave=2", "switching=1")
    events(host)
    host.run(_HELD)
    try:
        host.run(_SWITCH.format(value=0, back=1))
        assert events(host) == "-v+kpvpk"
        assert host.read("patches/kpt_hooks/kpt_target/patched") == "1"
        host.unload("kpt_target")
        assert events(host) == "-kuk"
    finally:
        host.run("kill $(cat /run/kpt/holder); rm /run/kpt/held")
    assert host.set("kpt_hooks", 0)
    assert events(host) == "-vuv"
    host.run(_HELD)
    try:
        host.run(_SWITCH.format(value=1, back=0))
        assert events(host) == "+v+kuvuk"
        assert host.read("patches/kpt_hooks/kpt_target/patched") == "0"
    finally:
        host.run("kill $(cat /run/kpt/holder); rm /run/kpt/held")
