# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What patch modules do of their own when an object is switched.

If these fail, a patch that can't work on a host is enabled there all the same, or data that its hooks prepare is
prepared twice, or never given back.
"""

from __future__ import annotations

from host import Host

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
