# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cumulative patch, which takes the place of every other; and several patches on one function.

If these fail, a host runs half of one patch and half of another, or a function that the newer patch dropped stays
replaced.
"""

from __future__ import annotations

from host import Host

CMDLINE = "/proc/cmdline"
NEW = "this is kpt_replace"


def test_one_switch_enables_it_and_disables_the_others(target: Host) -> None:
    version = target.read("/proc/version")
    target.load("kpt_first")
    target.load("kpt_late")
    assert target.read("patches/kpt_late/replace") == "0"
    target.load("kpt_replace")
    assert target.read(CMDLINE) == NEW
    # It has dropped what kpt_late replaced, of vmlinux and of the module.
    assert target.read("/proc/version") == version
    assert target.target()["value"] == 1
    for patch in ("kpt_first", "kpt_late"):
        assert target.read(f"patches/{patch}/enabled") == "0"
        assert target.read(f"/sys/module/{patch}/refcnt") == "0"
        target.unload(patch)
    assert target.read("patches/kpt_replace/replace") == "1"
    assert target.read("patches/kpt_replace/checksum") == "sha256:0123abcd"
    target.unload("kpt_target")
    target.load("kpt_target")
    assert target.target()["in_init"] == 1


def test_the_others_come_back_only_when_asked_for(host: Host) -> None:
    original = host.read(CMDLINE)
    host.load("kpt_first")
    host.load("kpt_replace")
    assert host.set("kpt_replace", 0)
    assert host.read(CMDLINE) == original
    assert host.set("kpt_first", 1)
    assert host.read(CMDLINE) == "this is kpt_first"
    assert host.set("kpt_replace", 1)
    assert host.read(CMDLINE) == NEW
    assert host.read("patches/kpt_first/enabled") == "0"


def test_the_hooks_of_those_that_go_are_called(target: Host) -> None:
    target.load("kpt_hooks")
    target.load("kpt_replace")
    assert target.read("/sys/module/kpt_hooks/parameters/events") == "+v+kpvpk-v-kuvuk"


def test_if_a_task_is_in_the_way_everything_stays(target: Host) -> None:
    target.load("kpt_first")
    target.load("kpt_sleep")
    pid = target.sleep_in_target()
    assert target.refused("kpt_replace") == (
        f"kpt_replace can't be enabled: task kpt-reader:{pid} is in an added function of kpt_sleep"
    )
    assert target.read(CMDLINE) == "this is kpt_first"
    assert target.target()["value"] == 2
    assert target.run("cat /sys/kernel/kpatch/patches/*/enabled").split() == ["1", "1"]
    # Those can still be disabled, and the new one enabled then.
    target.run(f"kill {pid}; while [ -e /proc/{pid} ]; do sleep 0.1; done")
    target.load("kpt_replace")
    assert target.read(CMDLINE) == NEW


def test_one_that_names_another_takes_its_place_alone(target: Host) -> None:
    target.load("kpt_first")
    target.load("kpt_late")
    target.load("kpt_second", "replaces=kpt_first")
    assert target.read("patches/kpt_second/replaces") == "kpt_first"
    assert target.read("patches/kpt_late/replaces") == ""
    assert target.read("patches/kpt_first/enabled") == "0"
    assert target.read("/sys/module/kpt_first/refcnt") == "0"
    assert target.read("patches/kpt_late/enabled") == "1"
    assert target.target()["value"] == 163
    target.unload("kpt_first")
    assert target.read(CMDLINE) == "this is kpt_second"


def test_what_it_names_is_left_alone_if_it_is_refused(target: Host) -> None:
    target.load("kpt_sleep")
    pid = target.sleep_in_target()
    assert target.refused("kpt_second", "replaces=kpt_sleep") == (
        f"kpt_second can't be enabled: task kpt-reader:{pid} is in an added function of kpt_sleep"
    )
    assert target.read("patches/kpt_sleep/enabled") == "1"
    assert target.target()["value"] == 2


def test_naming_one_that_is_not_on_changes_nothing(host: Host) -> None:
    host.load("kpt_first")
    assert host.set("kpt_first", 0)
    for name in ("kpt_first", "kpt_nobody"):
        host.load("kpt_second", f"replaces={name}")
        assert host.read(CMDLINE) == "this is kpt_second"
        assert host.set("kpt_second", 0)
        host.unload("kpt_second")


def test_three_on_one_function_go_in_any_order(host: Host) -> None:
    original = host.read(CMDLINE)
    names = ("kpt_first", "kpt_second", "kpt_hooks")
    for name in names:
        host.load(name)
    assert host.read(CMDLINE) == "this is kpt_hooks"
    assert host.set("kpt_second", 0)
    assert host.read(CMDLINE) == "this is kpt_hooks"
    assert host.set("kpt_hooks", 0)
    assert host.read(CMDLINE) == "this is kpt_first"
    host.unload("kpt_second")
    assert host.set("kpt_first", 0)
    assert host.read(CMDLINE) == original


def test_a_patch_under_another_goes_only_when_nobody_is_in_it(target: Host) -> None:
    target.load("kpt_sleep")
    pid = target.sleep_in_target()
    assert not target.set("kpt_sleep", 0)
    assert target.refusal() == (
        f"kpt_sleep can't be disabled: task kpt-reader:{pid} is in an added function of kpt_sleep"
    )
    assert target.set("kpt_sleep", 1)
