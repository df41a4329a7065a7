# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A set takes another's place on a booted machine: each test's first line is the fault, the rest the invariant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from machine import ALL, CACHE, PATCHES, Machine

_WORD = "KpatchDemo:"
_SHOWN = "grep -o '^Kpatch[A-Za-z]*' /proc/meminfo; :"


def changed(directory: Path, name: str, word: str) -> dict[str, Any]:
    """The patch of /proc/meminfo under another name, with another line: all of them replace the same function."""
    demo = PATCHES["demo-meminfo"]
    source = directory / f"{word}.patch"
    source.write_text(Path(demo["source"]).read_text().replace(_WORD, f"{word}:"))
    return {**demo, "name": name, "source": str(source)}


@pytest.mark.fault("vm-shared-function")
def test_patch_below_another_one_is_upgraded(machine: Machine, tmp_path: Path) -> None:
    """Of two patches that replace the same function the lower one is upgraded, and then their order is turned around.
    The upper one stays in charge of the function, until the set says otherwise.
    """
    below, above = changed(tmp_path, "below", "KpatchBelow"), changed(tmp_path, "above", "KpatchAbove")
    newer = changed(tmp_path, "below", "KpatchNewer")

    def roll_out(*patches: dict[str, Any]) -> str:
        assert machine.play("build", kpatch_cache=str(CACHE), kpatch_patches=list(patches))[0] == 0
        status, _text = machine.rollout(kpatch_patches=list(patches))
        assert (status, machine.state()) == (0, "applied")
        assert machine.modules() == ["kpatch", "kpatch_above", "kpatch_below"]
        return machine.run(_SHOWN).strip()

    assert roll_out(below, above) == "KpatchAbove"
    assert roll_out(newer, above) == "KpatchAbove"
    assert roll_out(above, newer) == "KpatchNewer"
    assert machine.play("rollback", kpatch_patches=[above, newer])[0] == 0
    assert (machine.modules(), machine.run(_SHOWN)) == ([], "")


@pytest.mark.fault("vm-upgrade-killed")
def test_upgrade_whose_process_is_killed(machine: Machine) -> None:
    """The process that replaces a patch set on the host is killed by SIGKILL, with the new patch loaded.
    The rollout fails and says so; the first set is on as the very builds that ran before, with nothing of the new one;
    the next rollout puts the new set on.
    """
    assert machine.rollout()[0] == 0
    before = machine.builds()
    machine.later(
        "while ! [ -d /sys/kernel/kpatch/patches/kpatch_oops_x* ]; do :; done\n"
        "kill -9 $(sed -n 's/.*\"pid\": \\([0-9]*\\).*/\\1/p' /run/kpatch.fleet.order.json) && touch /run/fault.done"
    )
    wanted: dict[str, Any] = {"patches": ["demo-vlan", "oops"], "kpatch_drop": ["demo-meminfo"]}
    status, _text = machine.rollout(**wanted)
    assert machine.run("ls /run/fault.done").strip()
    assert (status, machine.state()) == (2, "apply-failed")
    assert "was killed" in machine.report()["reason"]
    assert "it is as before the change: " in machine.report()["reason"]
    assert (machine.modules(), machine.builds()) == (ALL, before)
    status, _text = machine.rollout(**wanted)
    assert (status, machine.state()) == (0, "applied")
    assert machine.modules() == ["kpatch", "kpatch_demo_vlan", "kpatch_oops"]
