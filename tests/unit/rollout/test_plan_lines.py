# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An operator sees on a narrow terminal what will be put where, and what will stop it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.kpatch.fleet.plugins.plugin_utils import plan, plan_lines
from ansible_collections.kpatch.fleet.plugins.plugin_utils.policy import check
from rollout_facts import LOST, RELEASE, look

POLICY = check(
    {
        "domain": "rack",
        "max_down": 9,
        "max_down_per_domain": 2,
        "throttle": 5,
        "blackout": ["mon,tue,wed,thu,fri 07:00-19:00"],
        "budget": "2%",
        "soak": 120,
        "looks": 4,
        "checks": [{"service": "nginx.service"}, {"url": "http://127.0.0.1/health"}],
        "on_failure": "all",
    }
)


def make(order: plan.Order, **values: Any) -> dict[str, Any]:
    looks = {**{f"web{number}.example": look() for number in range(12)}, "gone.example": LOST}
    domains = dict.fromkeys(looks, "a")
    return plan.make("20261126T120000.000000Z", replace(order, domains=domains, **values), looks, False)


@pytest.mark.parametrize("width", [60, 80])
def test_all_of_it_fits(order: plan.Order, width: int) -> None:
    told = plan_lines.lines(make(order, policy=POLICY, batches=[1, "50%"]), width)
    assert [line for line in told if len(line) > width] == []


def test_it_tells_artifacts_by_digest_and_all_gates(order: plan.Order) -> None:
    made = make(order, policy=POLICY)
    told = plan_lines.lines(made, 60)
    digest = hashlib.sha256(b"ko").hexdigest()[:16]
    assert f"artifacts for {RELEASE}:" in told
    rows = [line.split() for line in told if digest in line]
    assert rows == [["fix", digest, "kpatch"], ["kpatch", digest, "kpatch"]]
    gates = " ".join(" ".join(told[told.index("gates:") :]).split())
    for one in (
        "may fail: 2%, and no canary",
        "watched: 120 s, 4 looks",
        "checks: service nginx.service",
        "a switch may wait: 30 s",
        "all that was changed is brought back",
        "at most 9 hosts down at once",
        "at most 2 down in one rack",
        "at most 5 changed at once",
        "no batch begins in mon,tue,wed,thu,fri 07:00-19:00 UTC",
        "not in a batch: gone.example is lost: no route",
    ):
        assert one in gates


def test_limits_that_there_are_none_of_are_not_told(order: plan.Order) -> None:
    told = plan_lines.lines(make(order), 60)
    assert [line for line in told if "limit" in line] == []
    assert "  watched: no" in plan_lines.lines(make(order, policy=check({"soak": 0})), 60)


def test_rollback_needs_no_artifacts(order: plan.Order) -> None:
    told = plan_lines.lines(make(order, want="absent"), 60)
    assert told[0] == "plan 20261126T120000.000000Z: rollback of fix"
    assert "nothing to do" in told
    assert [line for line in told if "artifacts" in line] == []
    assert "  if one fails: nothing is taken back" in told
