# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's metrics tell how the last rollout stands; rules and dashboard ask for nothing that nobody writes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import example_rollout as example
import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils.host import metrics
from ansible_collections.kpatch.fleet.plugins.plugin_utils import report_document, rollout_metrics
from ansible_collections.kpatch.fleet.plugins.plugin_utils.errors import FleetError
from prometheus_client.parser import text_string_to_metric_families

FILES = Path(__file__).parents[3] / "roles/metrics/files"


@pytest.fixture
def written(tmp_path: Path) -> dict[tuple[str, ...], float]:
    made = example.plan(8)
    stopped = example.shut(made, example.ledger(made, {"web002": ("lost", "no route")}, 2), 3, "web002 is lost")
    path = tmp_path / "new/kpatch.prom"
    rollout_metrics.write(path, report_document.document(made, stopped))
    families = text_string_to_metric_families(path.read_text())
    return {(sample.name, *sample.labels.values()): sample.value for family in families for sample in family.samples}


def test_counts_verdict_and_coverage_are_the_reports(written: dict[tuple[str, ...], float]) -> None:
    assert written["kpatch_rollout_hosts", "lost"] == 1
    assert written["kpatch_rollout_hosts", "held"] == 4
    assert written["kpatch_rollout_hosts", "stuck"] == 0
    assert [written["kpatch_rollout_verdict", name] for name in ("stop", "go", "done")] == [1, 0, 0]
    assert written["kpatch_rollout_gates_shut",] == 1
    assert written["kpatch_patch_hosts", "tcp-fix"] == 3


def test_place_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    made = example.plan(2)
    with pytest.raises(FleetError, match="can't be written"):
        rollout_metrics.write(tmp_path / "file/x.prom", report_document.document(made, example.ledger(made)))


def test_package_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollout_metrics, "HAS_PROMETHEUS", False)
    with pytest.raises(FleetError, match="prometheus-client"):
        rollout_metrics.write(tmp_path / "x.prom", {})


@pytest.mark.parametrize("name", ["alerts.yml", "dashboard.json"])
def test_rules_and_dashboard_ask_for_metrics_that_are_written(name: str, written: dict[tuple[str, ...], float]) -> None:
    text = (FILES / name).read_text()
    asked = set(re.findall(r"kpatch_[a-z_]+", text)) - {"kpatch_fleet"}
    assert asked
    assert asked <= {key[0] for key in written} | metrics._HELP.keys()
    if name.endswith("json"):
        assert len({panel["id"] for panel in json.loads(text)["panels"]}) == 9
