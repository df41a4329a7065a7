# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the playbooks leave to Ansible. If this breaks, its own limits end a rollout that our gate would have judged."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
PLAYBOOKS = ["rollout", "rollback", "survey", "status", "build"]


def plays(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load((ROOT / f"playbooks/{name}.yml").read_text())
    return found


@pytest.mark.parametrize("name", PLAYBOOKS)
def test_batches_go_step_by_step_whatever_the_configuration_says(name: str) -> None:
    """The strategy 'free', which ansible.cfg may name, knows no batch that has ended."""
    assert {play["strategy"] for play in plays(name)} == {"linear"}


def test_ansibles_own_limits_are_not_used() -> None:
    """They don't count lost hosts, and let a lone canary that is lost pass."""
    words = re.compile(r"^ *(- )?(any_errors_fatal|max_fail_percentage)\b", re.MULTILINE)
    files = [path for top in ("playbooks", "roles") for path in (ROOT / top).rglob("*.yml")]
    assert [path for path in files if words.search(path.read_text())] == []


def test_tasks_that_reach_a_host_leave_the_judgement_to_the_ledger() -> None:
    """Neither a failure nor a lost host takes a host out of the play before its outcome is recorded."""
    reach = {f"kpatch.fleet.{name}" for name in ("patchset", "host_info", "probe", "boot")}
    tasks = [
        task
        for path in (ROOT / "roles/rollout/tasks").glob("*.yml")
        for task in _tasks(yaml.safe_load(path.read_text()))
    ]
    reaching = [task for task in tasks if reach & set(task)]
    assert len(reaching) > 5
    for task in reaching:
        assert task["ignore_unreachable"] is True
        assert task.get("ignore_errors") is True or task.get("failed_when") is False


def test_no_more_hosts_are_changed_at_a_time_than_the_policy_says() -> None:
    tasks = [
        task
        for path in (ROOT / "roles/rollout/tasks").glob("*.yml")
        for task in _tasks(yaml.safe_load(path.read_text()))
    ]
    (change,) = [task for task in tasks if "order" in task.get("kpatch.fleet.patchset", {})]
    assert change["throttle"] == "{{ rollout_policy.throttle }}"


def _tasks(listed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The tasks of a list, those in blocks included."""
    return [one for task in listed for one in [task, *_tasks(task.get("block", []))]]
