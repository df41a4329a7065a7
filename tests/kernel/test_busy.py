# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tasks that are in a function while it is to be switched.

If these fail, old and new functions run at the same time although the patch asked for the opposite, or a task
returns into a patch module that is gone, which is a crash; or an operator is not told whom to blame.
"""

from __future__ import annotations

from host import CORE, Host


def test_a_sleeper_in_the_old_function_refuses_enabling(target: Host) -> None:
    before = target.target()
    pid = target.sleep_in_target()
    assert target.refused("kpt_sleep") == (
        f"kpt_sleep can't be enabled: task kpt-reader:{pid} is in target_sleep of kpt_target"
    )
    log = target.run("dmesg | grep kpatch:")
    assert "target_sleep+" in log
    assert "entry_SYSCALL_64" in log
    # Not even the function that nobody was in has changed.
    assert target.target() == before
    assert target.run("cat /sys/kernel/tracing/enabled_functions 2>/dev/null | grep -c target_; :").strip() == "0"

    target.run("echo > /proc/kpt_sleep")
    target.load("kpt_sleep")
    assert target.target() == {**before, "value": 2}
    assert target.refusal() == ""


def test_a_sleeper_who_leaves_in_time_is_waited_for(target: Host) -> None:
    target.sleep_in_target()
    target.run("(sleep 0.7; echo > /proc/kpt_sleep) > /dev/null 2>&1 < /dev/null &")
    target.load("kpt_sleep")
    assert target.target()["value"] == 2


def test_a_sleeper_in_the_new_code_refuses_disabling(target: Host) -> None:
    target.load("kpt_sleep")
    pid = target.sleep_in_target()
    assert not target.set("kpt_sleep", 0)
    # The new function is not on its stack: it has called the helper last.
    assert target.refusal() == (
        f"kpt_sleep can't be disabled: task kpt-reader:{pid} is in an added function of kpt_sleep"
    )
    assert target.read("patches/kpt_sleep/enabled") == "1"
    assert target.read("patches/kpt_sleep/transition") == "0"
    assert target.target()["value"] == 2
    assert target.script("rmmod kpt_sleep").returncode != 0

    target.run(f"kill {pid}; while [ -e /proc/{pid} ]; do sleep 0.1; done")
    assert target.set("kpt_sleep", 0)
    assert target.target()["value"] == 1
    target.unload("kpt_sleep")


def test_a_switch_under_way_can_be_seen(target: Host) -> None:
    target.sleep_in_target()
    seen = target.run(
        f"""
        insmod /run/kpt/kpt_sleep.ko 2> /dev/null & loader=$!
        cd {CORE}/patches
        while kill -0 $loader 2> /dev/null; do
            echo $(cat kpt_sleep/transition kpt_sleep/enabled 2> /dev/null | tr -d '\\n')
        done
        """
    )
    assert "10" in seen.split()
