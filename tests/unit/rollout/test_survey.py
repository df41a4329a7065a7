# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is left on a host for nothing, or can't be taken off, is seen in the table of the fleet."""

from __future__ import annotations

from typing import Any

from ansible_collections.kpatch.fleet.plugins.plugin_utils import survey
from rollout_facts import look


def seen(*modules: str, backend: str = "kpatch", **patch: Any) -> dict[str, Any]:
    found = look(*modules)
    found["host"]["kernel"].update(version="#1", machine="x86_64")
    found["host"]["core"] = found["host"]["core"] and {**found["host"]["core"], "abi": 3}
    found["host"]["patches"] = [{**one, "backend": backend, **patch} for one in found["host"]["patches"]]
    return found


def told(state: str, found: dict[str, Any]) -> list[str]:
    return survey.lines({"h": found}, {"h": {"state": state, "reason": ""}})


def test_core_module_that_nothing_needs_is_told() -> None:
    for state, found in (("applied", seen("kpatch", "kpatch_a", backend="livepatch")), ("absent", seen("kpatch"))):
        assert "abi 3 (idle)" in told(state, found)[2]
    hints = told("applied", seen("kpatch", "kpatch_a", backend="livepatch"))[-1]
    assert hints.startswith("the core module is loaded and nothing needs it on h; ")
    assert told("absent", seen("kpatch"))[-1] == "", "a rollout may bring what needs it"


def test_core_module_that_a_patch_needs_is_not() -> None:
    lines = told("applied", seen("kpatch", "kpatch_a"))
    assert "idle" not in " ".join(lines)
    assert "nothing needs it" not in " ".join(lines)


def test_forced_patch_that_is_off_stays_until_a_reboot() -> None:
    assert "kpatch_a (off, loaded until a reboot)" in told("staged", seen("kpatch_a", enabled=False, forced=True))[2]
    assert "kpatch_a (off)" in told("staged", seen("kpatch_a", enabled=False, forced=False))[2]
