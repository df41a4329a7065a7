# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""If this breaks, a host is judged by another one's plan, or each step of a host reads the plan of the whole fleet."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kpatch.fleet.plugins.action import record
from ansible_collections.kpatch.fleet.plugins.plugin_utils import host_plan, ledger, plan, resume
from ansible_collections.kpatch.fleet.plugins.plugin_utils.errors import FleetError
from ansible_collections.kpatch.fleet.plugins.plugin_utils.policy import check
from rollout_facts import LOST, look

# Names that are the beginning of others, or hold what a line of JSON has around a name.
NAMES = ["h", "h1", "h10", '"h1", ', "h\\1", "h\n1", "ü"]


@pytest.fixture
def made(order: plan.Order, tmp_path: Path) -> dict[str, Any]:
    looks = {name: look(boot_id=f"boot of {name}") for name in NAMES}
    made = plan.make("one", order, {**looks, "gone": LOST}, False)
    made["policy"] = check({"soak": 0})
    plan.write(tmp_path, made)
    return made


@pytest.mark.parametrize("name", NAMES)
def test_it_is_what_the_plan_says_of_the_host(made: dict[str, Any], tmp_path: Path, name: str) -> None:
    found, batch = host_plan.load(tmp_path, name)
    whole = plan.load(tmp_path)
    assert found == {**{key: whole[key] for key in whole if key != "batches"}, "hosts": {name: whole["hosts"][name]}}
    assert batch == plan.batch_of(whole, name)


def test_host_that_is_in_no_batch_is_refused(made: dict[str, Any], tmp_path: Path) -> None:
    for name in ("gone", "never"):
        with pytest.raises(FleetError, match=f"{name} is in no batch of the plan one"):
            host_plan.load(tmp_path, name)


@pytest.mark.parametrize("damage", ["", "{", '{"id": "one"}\n{"host": "h1", }\n', None])
def test_file_that_is_torn_or_gone_is_named(made: dict[str, Any], tmp_path: Path, damage: str | None) -> None:
    path = tmp_path / host_plan.FILE
    path.unlink()
    if damage is not None:
        path.write_text(damage)
    with pytest.raises(FleetError, match=r"hosts\.jsonl: can't be read"):
        host_plan.load(tmp_path, "h1")


def test_what_a_resumed_rollout_compares_with_is_the_hosts_new_state(
    order: plan.Order, made: dict[str, Any], tmp_path: Path
) -> None:
    ledger.append(tmp_path / plan.LEDGER, "plan", id="one", batches=1)
    looks = {name: look(boot_id="another") for name in NAMES}
    _kernels, fresh = plan.assess(order, looks)
    left = resume.rest(made, ledger.read(tmp_path / plan.LEDGER), looks)
    resume.keep_baseline(tmp_path, made, fresh, left)
    assert host_plan.load(tmp_path, "h1")[0]["hosts"]["h1"]["boot_id"] == "another"


def test_a_record_does_not_read_the_plan_of_the_fleet(
    made: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for silent in ("show", "show_verbose"):
        monkeypatch.setattr(record.ActionModule, silent, lambda self, lines: None)
    (tmp_path / plan.FILE).unlink()

    action = record.ActionModule.__new__(record.ActionModule)
    action._task = types.SimpleNamespace(check_mode=False)
    action.variables = {"inventory_hostname": "h10"}
    arguments = {"rollout": str(tmp_path), "step": "look", "look": look("kpatch", "kpatch_fix"), "order": None}
    action.act({**arguments, "results": [], "before": None})
    assert [entry["host"] for entry in ledger.read(tmp_path / plan.LEDGER).entries] == ["h10"]
