# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host is judged by what its kernel says, whatever the tasks said."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kpatch.fleet.plugins.plugin_utils import outcome, plan
from rollout_facts import LOST, look

DONE = look("kpatch", "kpatch_fix")
FAILED = {"failed": True, "reason": "busy", "msg": "task 1"}
GONE = {"unreachable": True, "msg": "closed"}


@pytest.fixture
def made(order: plan.Order) -> dict[str, Any]:
    return plan.make("id", order, {"h": look(counters={"oops": 0, "warn": None})}, False)


@pytest.mark.parametrize(
    ("results", "seen", "state"),
    [
        ([{}], DONE, "applied"),
        ([{}], look("kpatch"), "apply-failed"),
        ([FAILED], look("kpatch"), "apply-failed"),
        ([FAILED], DONE, "apply-failed"),
        ([FAILED], look("kpatch", taint={"flags": "D"}), "needs-check"),
        ([{}], look("kpatch", "kpatch_fix", counters={"oops": 1, "warn": None}), "needs-check"),
        ([{}], look("kpatch", "kpatch_fix", counters={"oops": 0, "warn": 3}), "applied"),
        ([{"failed": True, "results": [{}, FAILED]}], look("kpatch"), "apply-failed"),
        ([GONE], DONE, "applied"),
        ([GONE], look("kpatch"), "apply-failed"),
        ([GONE], LOST, "lost"),
        ([{}], look("kpatch", "kpatch_fix", boot_id="two"), "lost"),
        ([{}], look("kpatch", "kpatch_fix", release="6.9"), "kernel-changed"),
        ([{}], look("kpatch", "kpatch_fix", taint={"flags": "OEKD"}), "needs-check"),
        ([{}], look("kpatch", "kpatch_fix", taint={"flags": "OEK"}), "applied"),
    ],
)
def test_after(made: dict[str, Any], results: list[Any], seen: dict[str, Any], state: str) -> None:
    assert outcome.after(made, "h", results, seen).state == state


def kept(**order: Any) -> dict[str, Any]:
    seen = look("kpatch")
    seen["host"]["order"] = order
    return seen


def test_result_that_did_not_come_back_is_read_on_the_host() -> None:
    assert outcome.with_order([GONE], kept(order="x", running=False, result=FAILED), "x") == [FAILED]
    assert outcome.with_order([GONE], kept(order="x", running=True, result=None), "x")[0]["reason"] == "stalled"
    assert outcome.with_order([GONE], kept(order="y", running=False, result=FAILED), "x") == [GONE]
    assert outcome.with_order([FAILED], kept(order="x", running=False, result={}), "x") == [FAILED]
    assert outcome.with_order([GONE], LOST, "x") == [GONE]


def test_switch_that_is_still_under_way_is_no_success(made: dict[str, Any]) -> None:
    seen = look("kpatch", "kpatch_fix")
    seen["host"]["patches"][0] |= {"transition": True, "blocking": ["42 cat meminfo_proc_show"]}
    verdict = outcome.after(made, "h", [], seen)
    assert verdict.state == "transitioning"
    assert "waits for 42 cat meminfo_proc_show" in verdict.reason


def test_reason_is_that_of_the_item_that_failed(made: dict[str, Any]) -> None:
    loop = {"failed": True, "msg": "One or more items failed", "results": [{"msg": "fine"}, FAILED]}
    assert outcome.after(made, "h", [loop], look("kpatch")).reason.startswith("busy: task 1")


def test_reason_of_a_patch_set_tells_of_all_its_parts(made: dict[str, Any]) -> None:
    whole = {"failed": True, "reason": "busy", "msg": "task 1. Of the others", "results": [{"msg": "fine"}, FAILED]}
    assert outcome.after(made, "h", [whole], look("kpatch")).reason == "busy: task 1. Of the others"
    refused = {"failed": True, "reason": "bad-arguments", "msg": "no names"}
    assert outcome.after(made, "h", [refused], look()).reason == "bad-arguments: no names"


def test_reason_tells_what_was_done_about_it_since(made: dict[str, Any]) -> None:
    killed = {"failed": True, "changed": True, "reason": "io-error", "msg": "its process was killed"}
    restored = {
        "changed": True,
        "results": [{"changed": True, "msg": "off again"}, {"changed": False, "msg": "as it was"}],
    }
    reason = "io-error: its process was killed; off again"
    assert outcome.after(made, "h", [killed, {}, restored], look()).reason == reason
    stuck = {"failed": True, "changed": False, "results": [], "reason": "busy", "msg": "task 1. On the host now: both"}
    reason = "io-error: its process was killed; busy: task 1. On the host now: both"
    assert outcome.after(made, "h", [killed, stuck], look()).reason == reason


def test_result_of_a_patch_set_is_a_look(made: dict[str, Any]) -> None:
    whole = {"changed": True, "results": [{"changed": True, "msg": "x"}], **DONE}
    assert outcome.after(made, "h", [whole], whole).state == "applied"
    assert outcome.foreseen(made, "h", [whole]).reason == "would do: x"


@pytest.mark.parametrize(
    ("seen", "state"),
    [
        (look(), None),
        (DONE, "applied"),
        (LOST, "lost"),
        (look(boot_id="two"), "lost"),
        (look(taint={"flags": "W"}), "needs-check"),
        (look() | {"checks": [{"name": "web", "verdict": "pass", "detail": ""}]}, None),
        (look() | {"checks": [{"name": "web", "verdict": "fail", "detail": ""}]}, "held"),
        (DONE | {"checks": [{"name": "web", "verdict": "fail", "detail": ""}]}, "applied"),
    ],
)
def test_before(made: dict[str, Any], seen: dict[str, Any], state: str | None) -> None:
    verdict = outcome.before(made, "h", seen)
    assert (verdict and verdict.state) == state


def test_patch_that_left_the_set_and_is_on_is_no_success(made: dict[str, Any]) -> None:
    made["hosts"]["h"]["obsolete"] = ["old"]
    assert outcome.after(made, "h", [{}], look("kpatch", "kpatch_fix")).state == "applied"
    verdict = outcome.after(made, "h", [{}], look("kpatch", "kpatch_fix", "kpatch_old"))
    assert (verdict.state, verdict.reason) == (
        "apply-failed",
        "every task said it was done; but now: old is on, and has left the patch set",
    )


BARE: dict[str, Any] = {"core": None, "patches": []}


def built(build_id: str, **patch: Any) -> dict[str, Any]:
    """What a host ran before that had a patch of another build, and one that has left the set."""
    core = {"module": "kpatch", "srcversion": "ABC", "build_id": build_id}
    old = {**core, "module": "kpatch_old", "enabled": True, **patch}
    return {"core": core, "patches": [{**old, "module": "kpatch_fix"}, old]}


@pytest.mark.parametrize(
    ("results", "seen", "then", "state"),
    [
        ([{}], look(), BARE, "absent"),
        ([{}], look("kpatch", "kpatch_fix", "kpatch_old"), built("cc"), "restored"),
        ([{}], look("kpatch", "kpatch_fix", "kpatch_old"), built("dd"), "stuck"),
        ([{}], look("kpatch", "kpatch_fix", "kpatch_old"), built("cc", enabled=False), "stuck"),
        ([{}], look("kpatch", "kpatch_fix"), built("cc"), "stuck"),
        ([{}], look("kpatch", "kpatch_fix", "kpatch_old", "kpatch_other"), built("cc"), "restored"),
        ([{}], look("kpatch"), BARE, "stuck"),
        ([FAILED], look(), BARE, "stuck"),
        ([GONE], LOST, BARE, "lost"),
    ],
)
def test_undone(made: dict[str, Any], results: list[Any], seen: Any, then: dict[str, Any], state: str) -> None:
    made["hosts"]["h"]["obsolete"] = ["old"]
    assert outcome.undone(made, "h", results, seen, then).state == state


def test_what_could_not_be_taken_back_is_told_by_module(made: dict[str, Any]) -> None:
    made["hosts"]["h"]["obsolete"] = ["old"]
    told = outcome.undone(made, "h", [FAILED], look("kpatch", "kpatch_fix"), built("cc")).reason
    assert told == "busy: task 1; kpatch_old is off, and was build cc"


def test_check_mode_leaves_the_state_and_tells_what_would_be_done(made: dict[str, Any]) -> None:
    verdict = outcome.foreseen(made, "h", [{"changed": True, "msg": "kpatch: absent -> loaded"}])
    assert (verdict.state, verdict.reason) == ("absent", "would do: kpatch: absent -> loaded")
    assert outcome.foreseen(made, "h", [FAILED]).state == "apply-failed"
