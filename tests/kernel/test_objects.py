# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules that are patched: loaded later, unloaded, back at another address; and relocations to their symbols.

If these fail, a module that is loaded after a rollout runs unpatched, or runs new code that calls into where the
module was before it went away, which is a crash.
"""

from __future__ import annotations

import pytest
from host import Host

# What late.c makes of the target's two hidden symbols, through all four kinds of relocation.
RELOCATED = 163


def test_a_module_that_loads_later_is_patched_before_its_init_runs(host: Host) -> None:
    host.load("kpt_late")
    assert host.read("/proc/version") == "this is kpt_late"
    assert host.read("patches/kpt_late/kpt_target/patched") == "0"
    assert host.read("patches/kpt_late/kpt_target/target_value,0/old_addr") == "0x0"
    host.load("kpt_target")
    assert host.target() == {
        "value": RELOCATED, "in_init": RELOCATED, "first": 10, "second": 20, "notrace": 100, "helper": 41,
    }  # fmt: skip
    assert host.read("patches/kpt_late/kpt_target/patched") == "1"
    assert host.read("patches/kpt_late/kpt_target/target_value,0/old_addr") != "0x0"


def test_a_module_that_is_there_is_patched_and_restored(target: Host) -> None:
    target.load("kpt_late")
    assert (target.target()["value"], target.target()["in_init"]) == (RELOCATED, 1)
    assert target.set("kpt_late", 0)
    assert target.target()["value"] == 1


def test_a_module_goes_and_comes_back_elsewhere(target: Host) -> None:
    target.load("kpt_late")
    first = target.read("patches/kpt_late/kpt_target/target_value,0/old_addr")
    target.unload("kpt_target")
    assert target.read("patches/kpt_late/kpt_target/patched") == "0"
    assert target.read("patches/kpt_late/kpt_target/target_value,0/old_addr") == "0x0"
    assert target.read("/proc/version") == "this is kpt_late"
    # Something else takes its place.
    target.load("kpt_first")
    target.load("kpt_target")
    assert target.target()["in_init"] == RELOCATED
    second = target.read("patches/kpt_late/kpt_target/target_value,0/old_addr")
    assert second != "0x0"
    # Disabled while it is away, it comes back as it was made.
    target.unload("kpt_target")
    assert target.set("kpt_late", 0)
    target.load("kpt_target")
    assert target.target()["value"] == 1
    assert first != "0x0"


def test_two_patches_of_a_module_that_loads_later_stack_in_the_order_of_enabling(host: Host) -> None:
    host.load("kpt_late")
    host.load("kpt_sleep")
    host.load("kpt_target")
    assert host.target()["value"] == 2
    assert host.set("kpt_sleep", 0)
    assert host.target()["value"] == RELOCATED


def test_sympos_says_which_function_of_a_name(target: Host) -> None:
    target.load("kpt_sympos")
    values = target.target()
    assert (values["first"], values["second"]) == (10, 21)
    addresses = sorted(
        int(line.split()[0], 16) for line in target.run("grep -w 'target_twin.*kpt_target' /proc/kallsyms").splitlines()
    )
    old = int(target.read("patches/kpt_sympos/kpt_target/target_twin,2/old_addr"), 16)
    assert addresses.index(old) == 1


SPOILED = {
    "symbol": "symbol kpt_no_such_symbol,0 is not in kpt_target",
    "type": "relocation type 6 to target_helper is unknown",
    "reach": "relocation type 10 to target_helper is out of reach at target_value+",
}


@pytest.mark.parametrize("reloc", SPOILED)
def test_a_module_that_cannot_be_patched_is_not_loaded(host: Host, reloc: str) -> None:
    host.load("kpt_late", f"reloc={reloc}")
    assert host.refused("kpt_target").startswith(SPOILED[reloc])
    assert "module kpt_target is not loaded, because kpt_late can't patch it" in host.run("dmesg")
    assert host.read("/proc/version") == "this is kpt_late"
    # Without that patch it loads.
    assert host.set("kpt_late", 0)
    host.load("kpt_target")
    assert host.target()["value"] == 1
    assert host.script("echo 1 > /sys/kernel/kpatch/patches/kpt_late/enabled").returncode != 0
    assert host.refusal().startswith(SPOILED[reloc])
    assert host.read("/proc/version") != "this is kpt_late"
