# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gate is shut unless everything that has run is proven to be well."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kpatch.fleet.plugins.plugin_utils import decision, gate, plan
from ansible_collections.kpatch.fleet.plugins.plugin_utils import policy as policies
from ansible_collections.kpatch.fleet.plugins.plugin_utils.ledger import Ledger
from ansible_collections.kpatch.fleet.plugins.plugin_utils.states import FAULTS
from rollout_facts import LOST, look, put


def entry(host: str, state: str) -> dict[str, Any]:
    return {"time": "t", "event": "host", "host": host, "state": state, "reason": ""}


def begin(host: str) -> dict[str, Any]:
    return {"time": "t", "event": "begin", "host": host}


@pytest.fixture
def three(order: plan.Order) -> dict[str, Any]:
    """Batches [a], [b], [c]."""
    looks = {name: look() for name in "abc"}
    return plan.make("id", plan.Order("applied", order.patches, order.store, True, [1]), looks, False)


def reasons(made: dict[str, Any], batch: str, *entries: dict[str, Any], damaged: tuple[str, ...] = ()) -> list[str]:
    return gate.decide(made, Ledger(list(entries), list(damaged)), list(batch)).reasons


def test_open_for_the_canary_and_after_what_went_well(three: dict[str, Any]) -> None:
    assert reasons(three, "a") == []
    assert reasons(three, "b", begin("a"), entry("a", "applied")) == []


@pytest.mark.parametrize("state", FAULTS)
def test_shut_after_each_fault(three: dict[str, Any], state: str) -> None:
    assert reasons(three, "b", entry("a", state)) == [f"a is {state}"]


def test_fault_of_an_earlier_batch_is_not_forgotten(three: dict[str, Any]) -> None:
    assert reasons(three, "c", entry("a", "lost"), entry("b", "applied")) == ["a is lost"]


def test_silence_is_no_success(three: dict[str, Any]) -> None:
    assert reasons(three, "b") == ["a has no outcome yet"]
    assert "unknown" in reasons(three, "b", begin("a"))[0]


def test_batch_has_to_be_the_plans(three: dict[str, Any]) -> None:
    assert "no batch of the plan" in reasons(three, "ab")[0]
    assert "no batch of the plan" in reasons(three, "")[0]


def test_shut_if_the_ledger_is_damaged(three: dict[str, Any]) -> None:
    assert reasons(three, "a", damaged=("line 1: not JSON",)) == ["line 1: not JSON"]


def test_shut_if_the_store_has_changed(three: dict[str, Any], store: Path) -> None:
    put(store, "fix", input_sha256="2" * 64)
    assert "has been changed since" in reasons(three, "a")[0]


def test_shut_if_a_host_was_lost_before_the_plan(order: plan.Order) -> None:
    made = plan.make("id", order, {"a": look(), "b": LOST}, False)
    assert reasons(made, "a") == ["b is lost: no route"]


def policy(made: dict[str, Any], **given: Any) -> dict[str, Any]:
    return {**made, "policy": policies.check(given)}


def test_budget_bears_a_fault_but_none_of_a_canary_and_nothing_unknown(three: dict[str, Any]) -> None:
    made = policy(three, budget=1)
    fine = entry("a", "applied")
    assert reasons(made, "c", fine, entry("b", "lost")) == []
    assert reasons(made, "b", entry("a", "lost")) == ["a is lost"]
    assert "unknown" in reasons(made, "c", fine, begin("b"))[0]
    assert reasons(policy(three, budget="34%"), "c", fine, entry("b", "lost")) == []
    assert reasons(policy(three, budget="33%"), "c", fine, entry("b", "lost")) == ["b is lost"]


def test_shut_after_a_verdict_that_holds_and_open_again_once_it_was_taken_up(three: dict[str, Any]) -> None:
    held = {"time": "t", "event": "verdict", "batch": 1, "verdict": "inconclusive", "reasons": ["a: who knows"]}
    resumed = {"time": "t", "event": "resume", "hosts": [], "vanished": []}
    assert reasons(three, "b", entry("a", "applied"), held) == ["a: who knows"]
    assert reasons(three, "b", entry("a", "applied"), held, resumed) == []


def test_shut_while_hosts_that_were_lost_leave_no_room(three: dict[str, Any]) -> None:
    made = policy(three, budget=1, max_down=1)
    assert reasons(made, "b", entry("a", "applied")) == []
    assert "2 hosts could be down at once" in reasons(made, "c", entry("a", "applied"), entry("b", "lost"))[0]


def test_shut_in_a_blackout(three: dict[str, Any]) -> None:
    made = policy(three, blackout=["22:00-04:00"])
    night, day = (datetime(2026, 11, 2, hour, tzinfo=timezone.utc) for hour in (3, 5))
    assert gate.decide(made, Ledger(), ["a"], night).reasons == [
        "no batch may begin before Mon 04:00 UTC (kpatch_policy: blackout)"
    ]
    assert gate.decide(made, Ledger(), ["a"], day).reasons == []


def test_a_host_that_vanished_before_it_was_taken_up_again_keeps_nobody(three: dict[str, Any]) -> None:
    resumed = {"time": "t", "event": "resume", "hosts": ["b", "c"], "vanished": ["a"]}
    assert reasons(three, "b", resumed) == []


def test_host_that_is_left_out_fails_only_if_all_are_required(order: plan.Order) -> None:
    made = plan.make("id", order, {"a": look(), "b": look(release="6.9")}, False)
    ledger = Ledger([entry("a", "applied")])
    assert reasons(made, "a") == []
    assert list(decision.failures(made, ledger, require_all=True)) == ["b"]
    assert decision.failures(made, ledger, require_all=False) == {}


def test_damaged_ledger_fails_the_playbook_though_no_host_is_to_blame(three: dict[str, Any]) -> None:
    assert decision.failures(three, Ledger([], ["line 1: torn"]), require_all=False) == {"a": "line 1: torn"}
