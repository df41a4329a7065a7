# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""If this breaks, a host that dies after its success lets the rollout go on, or a blip takes a good patch back."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kpatch.fleet.plugins.plugin_utils import plan, policy, soak, undo
from ansible_collections.kpatch.fleet.plugins.plugin_utils.ledger import Ledger
from rollout_facts import LOST, look

DONE = look("kpatch", "kpatch_fix")


def event(kind: str, host: str, **values: Any) -> dict[str, Any]:
    return {"time": "t", "event": kind, "host": host, "reason": "", **values}


@pytest.fixture
def three(order: plan.Order) -> dict[str, Any]:
    """Batches [a], [b, c]."""
    made = plan.make("id", order, {name: look() for name in "abc"}, False)
    return {**made, "batches": [["a"], ["b", "c"]]}


def begun(*hosts: str, state: str = "applied") -> list[dict[str, Any]]:
    return [one for host in hosts for one in (event("begin", host), event("host", host, state=state))]


def looked(host: str, *checks: str, state: str = "applied") -> list[dict[str, Any]]:
    return [event("look", host, state=state, checks={"web": verdict}) for verdict in checks]


@pytest.mark.parametrize(
    ("verdicts", "trend"),
    [
        ("ppp", "pass"),
        ("fpp", "pass"),
        ("pfp", "pass"),
        ("f", "fail"),
        ("ff", "fail"),
        ("pff", "fail"),
        ("pf", "inconclusive"),
        ("fpf", "inconclusive"),
        ("fpfp", "inconclusive"),
        ("pi", "inconclusive"),
        ("ip", "pass"),
        ("ii", "inconclusive"),
    ],
)
def test_trend(verdicts: str, trend: str) -> None:
    words = {"p": "pass", "f": "fail", "i": "inconclusive"}
    assert soak.trend([words[verdict] for verdict in verdicts]) == trend


def test_one_host_that_fails_fails_its_batch(three: dict[str, Any]) -> None:
    ledger = Ledger([*begun("b", "c"), *looked("b", "pass", "pass"), *looked("c", "fail", "fail")])
    judged = soak.judge(three, ledger, 2)
    assert (judged.verdict, {name: found.state for name, found in judged.hosts.items()}) == (
        "fail",
        {"c": "needs-check"},
    )


def test_what_the_kernel_says_is_believed_at_once(three: dict[str, Any]) -> None:
    ledger = Ledger([*begun("a"), *looked("a", "pass", state="lost"), *looked("a", "pass")])
    assert soak.judge(three, ledger, 1).hosts["a"].state == "lost"


def test_looks_of_an_earlier_try_do_not_count(three: dict[str, Any]) -> None:
    ledger = Ledger([*begun("a"), *looked("a", "fail", "fail"), *begun("a"), *looked("a", "pass")])
    assert soak.judge(three, ledger, 1).verdict == "pass"


def test_silence_is_no_pass(three: dict[str, Any]) -> None:
    assert soak.judge(three, Ledger(), 1).verdict == "fail"


@pytest.mark.parametrize(
    ("seen", "state"),
    [
        (DONE, "applied"),
        (LOST, "lost"),
        (look("kpatch"), "apply-failed"),
        (look("kpatch", "kpatch_fix", boot_id="two"), "lost"),
        (look("kpatch", "kpatch_fix", taint={"flags": "D"}), "needs-check"),
    ],
)
def test_look(three: dict[str, Any], seen: dict[str, Any], state: str) -> None:
    assert soak.look(three, "a", seen)[0].state == state


@pytest.mark.parametrize(
    ("scope", "harm", "back"),
    [
        ("batch", "needs-check", ["b", "c"]),
        ("all", "lost", ["a", "b", "c"]),
        ("hold", "lost", []),
        ("batch", "apply-failed", []),
        ("batch", "applied", []),
    ],
)
def test_what_is_taken_back(three: dict[str, Any], scope: str, harm: str, back: list[str]) -> None:
    made = {**three, "policy": policy.check({"on_failure": scope})}
    ledger = Ledger([*begun("a", "b"), *begun("c", state=harm)])
    assert undo.hosts(made, ledger, 2) == back


def test_nothing_is_taken_back_within_the_budget(three: dict[str, Any]) -> None:
    made = {**three, "policy": policy.check({"budget": 1})}
    assert undo.hosts(made, Ledger([*begun("a", "b"), *begun("c", state="lost")]), 2) == []
