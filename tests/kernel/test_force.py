# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Functions that are switched under whoever is in them.

If these fail, a patch that its author forced is refused by a sleeper, or its text goes while a task is still to
return into it, which is a crash.
"""

from __future__ import annotations

from host import Host

PATCH = "patches/kpt_forced"


def test_a_forced_function_does_not_mind_a_sleeper_and_can_not_be_unloaded(target: Host) -> None:
    pid = target.sleep_in_target()
    assert target.refused("kpt_hooks").endswith(f"task kpt-reader:{pid} is in target_sleep of kpt_target")
    target.load("kpt_forced")
    assert target.target()["value"] == 4
    assert target.read(f"{PATCH}/forced") == "1"
    assert target.read(f"{PATCH}/kpt_target/target_sleep,0/forced") == "1"
    assert target.read(f"{PATCH}/kpt_target/target_value,0/forced") == "0"
    assert "kpt_forced has forced functions: it can be disabled, but not unloaded" in target.run("dmesg")

    assert target.set("kpt_forced", 0)
    assert target.target()["value"] == 1
    assert target.set("kpt_forced", 1)
    assert target.set("kpt_forced", 0)
    assert target.read("/sys/module/kpt_forced/refcnt") == "1"
    assert target.script("rmmod kpt_forced").returncode != 0
    assert target.run(f"cat /proc/{pid}/comm").strip() == "kpt-reader"
    # Nobody is in it: this machine is needed for other tests.
    target.run("rmmod -f kpt_forced")


def test_what_is_not_forced_says_so(target: Host) -> None:
    target.load("kpt_hooks")
    assert target.read("patches/kpt_hooks/forced") == "0"
