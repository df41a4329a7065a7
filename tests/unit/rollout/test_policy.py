# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""If this breaks, a misspelt limit is taken for none, or a batch begins at an hour that was forbidden."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest
from ansible_collections.kpatch.fleet.plugins.plugin_utils import blackout, policy
from ansible_collections.kpatch.fleet.plugins.plugin_utils.errors import FleetError


def at(day: int, time: str) -> datetime:
    """A time in the week that begins with Monday, 2 November 2026."""
    hours, minutes = time.split(":")
    return datetime(2026, 11, 1 + day, int(hours), int(minutes), tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("window", "now", "until"),
    [
        ("08:00-18:00", at(1, "07:59"), None),
        ("08:00-18:00", at(1, "08:00"), at(1, "18:00")),
        ("08:00-18:00", at(1, "18:00"), None),
        ("22:00-04:00", at(1, "23:00"), at(2, "04:00")),
        ("22:00-04:00", at(2, "03:59"), at(2, "04:00")),
        ("22:00-04:00", at(2, "04:00"), None),
        ("fri 22:00-04:00", at(5, "22:00"), at(6, "04:00")),
        ("fri 22:00-04:00", at(6, "01:00"), at(6, "04:00")),
        ("fri 22:00-04:00", at(5, "01:00"), None),
        ("sat,Sun 00:00-24:00", at(7, "23:59"), at(8, "00:00")),
        ("sat,sun 00:00-24:00", at(5, "12:00"), None),
    ],
)
def test_windows(window: str, now: datetime, until: datetime | None) -> None:
    assert blackout.until([window], now) == until


def test_the_longest_window_counts() -> None:
    assert blackout.until(["08:00-09:00", "08:30-10:00"], at(1, "08:45")) == at(1, "10:00")


@pytest.mark.parametrize("window", ["8-18", "08:00", "25:00-26:00", "08:00-08:00", "xyz 08:00-09:00", "08:61-09:00", 8])
def test_what_is_no_window_is_refused(window: Any) -> None:
    with pytest.raises(FleetError, match="is no window"):
        policy.check({"blackout": [window]})


@pytest.mark.parametrize(
    "given",
    [
        "all",
        {"max_donw": 1},
        {"max_down": -1},
        {"max_down": True},
        {"deadline": 0},
        {"deadline": 86401},
        {"budget": "half"},
        {"budget": "101%"},
        {"soak": "long"},
        {"on_failure": "ignore"},
        {"checks": [{}]},
        {"checks": [{"service": ""}]},
        {"checks": [{"service": "a", "url": "http://b"}]},
        {"checks": [{"service": "a", "stats": 1}]},
        {"checks": [{"url": "ftp://b"}]},
        {"checks": [{"url": "http:///b"}]},
        {"checks": [{"url": "http://[b"}]},
        {"checks": [{"command": "echo 'a"}]},
        {"checks": [{"load": "high"}]},
    ],
)
def test_what_can_not_be_is_named(given: Any) -> None:
    with pytest.raises(FleetError, match="kpatch_policy"):
        policy.check(given)


def test_defaults_fill_up_and_no_soak_is_no_look() -> None:
    assert policy.check({}) == policy.DEFAULTS
    assert policy.check({"soak": 0})["looks"] == 0


@pytest.mark.parametrize(("budget", "count"), [(0, 0), (3, 3), ("3", 3), ("10%", 5), ("0%", 0), ("1%", 0)])
def test_budget(budget: Any, count: int) -> None:
    assert policy.allowed(policy.check({"budget": budget}), 50) == count


def test_checks_have_a_name() -> None:
    assert policy.title({"service": "nginx"}) == "service nginx"
    assert policy.title({"url": "http://a", "name": "front"}) == "front"


def test_name_of_a_check_holds_nothing_that_may_be_a_secret() -> None:
    """Names go into the ledger, reports, notices and onto the terminal."""
    checks = [
        {"url": "https://me:hunter2@web:8443/health?token=hunter2"},
        {"command": "/usr/bin/probe --password hunter2"},
        {"command": ["/usr/bin/probe", "--password", "hunter2"]},
        {"service": "nginx"},
    ]
    named = [one["name"] for one in policy.check({"checks": checks})["checks"]]
    assert named == [
        "url https://web:8443/health",
        "command /usr/bin/probe",
        "command /usr/bin/probe (2)",
        "service nginx",
    ]
