# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A module's exit function that is replaced.

If these fail, a module is removed by old code under new, or by code of a patch module that is gone, which is a crash.
"""

from __future__ import annotations

import pytest
from builder import Builder
from host import CORE, Host
from models import MODELS, Model

VLAN = "net/8021q/vlan.c"


def _leaves_by(host: Host) -> str:
    """Remove the target: the patch whose exit function ran; empty if it was its own."""
    host.run("dmesg --clear")
    host.unload("kpt_target")
    return host.run("dmesg | sed -n 's/.*the target has left by //p'").strip()


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_a_module_leaves_by_the_new_function_until_the_patch_is_off(target: Host, model: Model) -> None:
    target.load("kpt_exit", *model.parameters())
    assert target.target()["value"] == 7
    assert _leaves_by(target) == "kpt_exit"
    # It comes later, and is patched then.
    target.load("kpt_target")
    assert target.target()["value"] == 7
    assert _leaves_by(target) == "kpt_exit"
    target.load("kpt_target")
    assert target.set("kpt_exit", 0)
    target.unload("kpt_exit")
    assert target.target()["value"] == 1
    assert _leaves_by(target) == ""


def test_the_newest_of_several_that_are_on_is_what_runs(target: Host) -> None:
    target.load("kpt_exit")
    target.load("kpt_exit_above")
    assert _leaves_by(target) == "kpt_exit_above"
    target.load("kpt_target")
    assert target.set("kpt_exit_above", 0)
    assert _leaves_by(target) == "kpt_exit"
    # The lower one goes first, and its module with it.
    target.load("kpt_target")
    assert target.set("kpt_exit_above", 1)
    assert target.set("kpt_exit", 0)
    target.unload("kpt_exit")
    assert _leaves_by(target) == "kpt_exit_above"
    target.load("kpt_target")
    assert target.set("kpt_exit_above", 0)
    assert _leaves_by(target) == ""


def test_a_module_stays_while_its_exit_function_is_switched(target: Host) -> None:
    target.sleep_in_target()
    target.run("(insmod /run/kpt/kpt_exit.ko leave=1 switching=1; echo $? > /run/kpt/done) > /dev/null 2>&1 &")
    target.run(f"for i in $(seq 50); do grep -q 1 {CORE}/patches/kpt_exit/transition && exit; sleep 0.1; done; exit 1")
    done = target.script("rmmod kpt_target")
    assert done.returncode != 0
    assert "in use" in done.stderr
    target.run("echo > /proc/kpt_sleep")
    target.run("for i in $(seq 300); do [ -e /run/kpt/done ] && exit; sleep 0.1; done; exit 1")
    assert target.run("cat /run/kpt/done; rm /run/kpt/done").strip() == "0"
    assert _leaves_by(target) == "kpt_exit"


def test_a_patch_whose_exit_function_runs_stays_on(target: Host) -> None:
    target.load("kpt_exit", "wait=1")
    target.run("rmmod kpt_target > /dev/null 2>&1 &")
    target.run("for i in $(seq 50); do dmesg | grep -q 'has left by kpt_exit' && exit; sleep 0.1; done; exit 1")
    assert not target.set("kpt_exit", 0)
    assert target.refusal() == "a module that kpt_exit patches does not finish being loaded or removed"
    assert target.read("patches/kpt_exit/enabled") == "1"
    # One that comes has nothing to do with it.
    target.load("kpt_exit_above")
    target.run("echo 0 > /sys/module/kpt_exit/parameters/wait")
    target.run("for i in $(seq 50); do grep -q ^kpt_target /proc/modules || exit 0; sleep 0.1; done; exit 1")
    assert target.set("kpt_exit", 0)


def test_a_fix_of_an_exit_function_is_built(host: Host, core: Builder) -> None:
    first = "\tvlan_ioctl_set(NULL);\n"
    result = core.patch("leaves", core.diff(VLAN, first, f'\tpr_notice("8021q leaves as patched\\n");\n{first}'))
    assert result.manifest is not None
    assert [function["name"] for function in result.manifest["functions"]] == ["vlan_cleanup_module"]
    assert result.path is not None
    host.send(result.path.glob("*.ko"))
    host.run("rmmod 8021q 2> /dev/null; modprobe 8021q && dmesg --clear")
    host.load("kpatch_leaves")
    host.run("rmmod 8021q && dmesg | grep -q '8021q leaves as patched'")
    # Its netlink operations, netdevice notifier and pernet operations have gone as well: there is room for them again.
    host.run("modprobe 8021q && rmmod 8021q && modprobe 8021q && dmesg --clear")
    assert host.set(str(result.manifest["loaded_as"]), 0)
    host.run("rmmod 8021q && ! dmesg | grep 'leaves as patched'")
    host.unload(str(result.manifest["loaded_as"]))
