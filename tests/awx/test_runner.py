# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The jobs as AWX starts them: ansible-runner, from a private data directory, against simulated hosts."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import ansible_runner
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/integration"))
from conftest import Fleet, tree  # noqa: E402
from test_awx import MADE, TEMPLATES  # noqa: E402


@pytest.fixture
def private(tmp_path: Path) -> tuple[Fleet, Path]:
    """Three hosts, one of them the canary, and AWX's directory with project, inventory and env."""
    collections = tree(tmp_path / "collections")
    fleet = Fleet(tmp_path, collections, 3)
    data = tmp_path / "private"
    (data / "inventory").mkdir(parents=True)
    (data / "env").mkdir()
    (data / "project").symlink_to(collections / "ansible_collections/kpatch/fleet")
    hosts = yaml.safe_load((tmp_path / "inventory.yml").read_text())
    hosts["all"]["children"] = {"kpatch_canary": {"hosts": {"h1": {}}}}
    (data / "inventory/hosts.yml").write_text(yaml.safe_dump(hosts))
    (data / "env/envvars").write_text(json.dumps({"ANSIBLE_COLLECTIONS_PATH": str(collections)}))
    return fleet, data


def start(private: tuple[Fleet, Path], name: str) -> Any:
    """One job, with the survey's defaults as AWX hands them over: as strings."""
    fleet, data = private
    template = TEMPLATES[name]
    answers = {one["variable"]: one["default"] for one in template.get("survey", []) if one["default"]}
    variables = {
        "kpatch_patches": [{"name": patch, "source": str(ROOT / "galaxy.yml")} for patch in fleet.patches],
        "builder_packages": [],
        **template.get("extra_vars", {}),
        **answers,
        "kpatch_home": str(fleet.home),
    }
    return ansible_runner.run(
        private_data_dir=str(data),
        playbook=f"playbooks/{template['playbook']}.yml",
        extravars=variables,
        quiet=True,
    )


def stats(job: Any) -> dict[str, Any]:
    """What the job hands to the next one of a workflow."""
    told = [event["event_data"].get("artifact_data") for event in job.events if "artifact_data" in event["event_data"]]
    return {key: value for one in told if one for key, value in one.items()}


def test_workflow_from_build_to_report(private: tuple[Fleet, Path]) -> None:
    fleet, _data = private
    for name in ("kpatch build", "kpatch canary"):
        job = start(private, name)
        assert job.rc == 0, job.stdout.read()
    assert fleet.touched == fleet.patched() == ["h1"]
    job = start(private, "kpatch rollout")
    assert job.rc == 0, job.stdout.read()
    assert fleet.patched() == ["h1", "h2", "h3"]
    assert stats(job)["kpatch_result"]["verdict"] == "done"
    assert stats(job)["kpatch_result"]["id"] == fleet.rollout().name
    for name in ("kpatch report", "kpatch status", "kpatch survey", "kpatch rollback"):
        assert start(private, name).rc == 0, name
    assert fleet.bare() == ["h1", "h2", "h3"]


def test_canary_that_fails_fails_its_job_and_tells_the_next_one(private: tuple[Fleet, Path]) -> None:
    fleet, _data = private
    fleet.update("h1", faults={"patch": "fail"})
    job = start(private, "kpatch canary")
    assert (job.rc, job.status) == (2, "failed")
    assert stats(job)["kpatch_result"]["verdict"] == "stop"
    assert fleet.touched == ["h1"]


def test_home_is_a_place_that_outlives_the_job() -> None:
    assert MADE["awx_home"].startswith("/")
