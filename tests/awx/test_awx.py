# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""AWX's configuration without an AWX: what it would refuse, what would ask for nothing, what would never be reached."""

from __future__ import annotations

import json
import os
import re
import subprocess
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]


class Loader(yaml.SafeLoader):
    """YAML with Ansible's !unsafe."""


def unsafe(loader: Loader, node: yaml.Node) -> str:
    """The text as it stands."""
    assert isinstance(node, yaml.ScalarNode)
    return str(loader.construct_scalar(node))


Loader.add_constructor("!unsafe", unsafe)
MADE = yaml.load((ROOT / "playbooks/vars/awx.yml").read_text(), Loader)
TASKS = yaml.load((ROOT / "playbooks/tasks/awx.yml").read_text(), Loader)
TEMPLATES = {template["name"]: template for template in MADE["awx_templates"]}
NODES = {node["identifier"]: node for node in MADE["awx_nodes"]}
KINDS = ("success_nodes", "failure_nodes", "always_nodes")
SURVEYED = [(name, question) for name, one in TEMPLATES.items() for question in one.get("survey", [])]


@pytest.fixture(scope="session")
def modules() -> dict[str, Any]:
    """The options of awx.awx's modules, as its own documentation has them."""
    names = sorted({key for task in TASKS for key in task if key.startswith("awx.awx.")})
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": os.environ["AWX_COLLECTIONS"]}
    told = subprocess.run(
        ["ansible-doc", "--json", *names], env=environment, capture_output=True, text=True, check=True
    )
    return {name: one["doc"]["options"] for name, one in json.loads(told.stdout).items()}


def related(node: dict[str, Any], kind: str) -> list[str]:
    return [other["identifier"] for other in node.get("related", {}).get(kind, [])]


def test_every_option_is_one_of_the_modules(modules: dict[str, Any]) -> None:
    for task in TASKS:
        (name,) = [key for key in task if key.startswith("awx.awx.")]
        options = modules[name]
        assert task[name].keys() <= options.keys(), name
        assert {key for key, option in options.items() if option.get("required")} <= task[name].keys()
        for key, value in task[name].items():
            choices = options[key].get("choices")
            assert not choices or value in choices, f"{name}: {key}"


def test_inventory_example_is_what_the_plugin_takes() -> None:
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": os.environ["AWX_COLLECTIONS"]}
    argv = ["ansible-doc", "--json", "--type", "inventory", "awx.awx.controller"]
    told = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True)
    options = json.loads(told.stdout)["awx.awx.controller"]["doc"]["options"]
    example = yaml.safe_load((ROOT / "playbooks/files/inventory/awx.controller.yml").read_text())
    assert example.keys() - {"plugin"} <= options.keys()
    assert example["inventory_id"] == f"{MADE['awx_inventory']}++{MADE['awx_organization']}"


def test_every_node_has_the_form_of_the_modules(modules: dict[str, Any]) -> None:
    form = modules["awx.awx.workflow_job_template"]["workflow_nodes"]["suboptions"]
    for node in NODES.values():
        assert node.keys() <= form.keys()
        assert node["unified_job_template"].keys() <= form["unified_job_template"]["suboptions"].keys()
        assert node.get("related", {}).keys() <= form["related"]["suboptions"].keys()


def test_workflow_has_no_cycle_and_one_way_in() -> None:
    after = {name: [one for kind in KINDS for one in related(node, kind)] for name, node in NODES.items()}
    assert {one for some in after.values() for one in some} <= NODES.keys()
    list(TopologicalSorter(after).static_order())
    assert NODES.keys() - {one for some in after.values() for one in some} == {"build"}


def test_nothing_is_rolled_out_without_canary_and_approval() -> None:
    ways = [(name, kind) for name, node in NODES.items() for kind in KINDS if "batches" in related(node, kind)]
    assert ways == [("approval", "success_nodes")]
    assert NODES["approval"]["unified_job_template"]["type"] == "workflow_approval"
    assert [name for name, node in NODES.items() if "approval" in related(node, "success_nodes")] == ["canary"]


def test_every_node_that_changes_something_has_a_failure_branch() -> None:
    for name in ("build", "canary", "approval", "batches"):
        assert related(NODES[name], "failure_nodes"), name


def test_nodes_and_schedule_name_templates_that_are_made() -> None:
    jobs = [node["unified_job_template"] for node in NODES.values()]
    named = {job["name"] for job in jobs if job["type"] == "job_template"}
    assert named | {TASKS[-1]["awx.awx.schedule"]["unified_job_template"]} <= TEMPLATES.keys()


def test_slices_are_off_and_every_playbook_is_there() -> None:
    (task,) = [task["awx.awx.job_template"] for task in TASKS if "awx.awx.job_template" in task]
    assert (task["job_slice_count"], task["allow_simultaneous"]) == (1, False)
    assert "ask_job_slice_count_on_launch" not in task
    for template in TEMPLATES.values():
        assert (ROOT / f"playbooks/{template['playbook']}.yml").exists()


def roles(playbook: str) -> set[str]:
    text = (ROOT / f"playbooks/{playbook}.yml").read_text()
    return set(re.findall(r"kpatch\.fleet\.(rollout|report|builder)\b", text))


def role_option(playbook: str, variable: str) -> dict[str, Any]:
    """The option of a role of *playbook* whose default reads *variable*, or what the playbook itself takes it for."""
    for role in sorted(roles(playbook)):
        defaults = yaml.safe_load((ROOT / f"roles/{role}/defaults/main.yml").read_text())
        specs = yaml.safe_load((ROOT / f"roles/{role}/meta/argument_specs.yml").read_text())["argument_specs"]
        for name, default in defaults.items():
            if re.search(rf"\b{variable}\b", str(default)):
                found: dict[str, Any] = next(
                    spec["options"][name] for spec in specs.values() if name in spec["options"]
                )
                return found
    if re.search(rf"\b{variable}\b[^}}\n]*\| bool", (ROOT / f"playbooks/{playbook}.yml").read_text()):
        return {"type": "bool"}
    raise AssertionError(f"no role of {playbook} reads {variable}")


@pytest.mark.parametrize(("name", "question"), SURVEYED, ids=[f"{name}: {one['variable']}" for name, one in SURVEYED])
def test_question_is_what_the_role_takes(name: str, question: dict[str, Any]) -> None:
    option = role_option(TEMPLATES[name]["playbook"], question["variable"])
    kind = "multiplechoice" if option["type"] == "bool" or "choices" in option else "text"
    assert question["type"] == kind
    if option["type"] == "bool":
        assert question["choices"] == ["true", "false"]
    if question["type"] == "multiplechoice":
        assert question["default"] in question["choices"]


def test_credential_types_hide_keys_and_inject_what_they_take() -> None:
    for one in MADE["awx_credential_types"]:
        fields = {field["id"]: field for field in one["inputs"]["fields"]}
        assert fields["key"]["secret"] is True
        used = set(re.findall(r"\{\{ *(?:tower\.filename\.)?(\w+) *\}\}", json.dumps(one["injectors"])))
        assert used == fields.keys()
