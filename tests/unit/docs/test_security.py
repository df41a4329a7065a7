# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The threat model's claims are held by tests. If this breaks, docs/security.md promises what nobody looks at."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/security.md").read_text()
# The rows of the tables that have a column for tests.
CLAIMS = [
    row
    for head, rows in re.findall(r"^(\|.*)\n\|[-|]+\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    if head.rstrip("| ").endswith("tests")
    for row in rows.splitlines()
]
NAMED = sorted(set(re.findall(r"`([\w/]+\.py::[\w:]+)`", PAGE)))


def functions_of(path: Path) -> set[str]:
    """The tests of a file, those of a class below its name."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{one.name}" for one in node.body if isinstance(one, ast.FunctionDef)}
        elif isinstance(node, ast.FunctionDef):
            found.add(node.name)
    return {name for name in found if name.split("::")[-1].startswith("test_")}


def test_there_are_claims_against_each_party() -> None:
    heads = set(re.findall(r"^## (.+)$", PAGE, re.MULTILINE))
    assert {"On the network", "On the builder", "Root on a host", "With an old artifact"} <= heads
    assert len(CLAIMS) > 25


@pytest.mark.parametrize("claim", CLAIMS, ids=[claim.split("|")[1].strip()[:60] for claim in CLAIMS])
def test_each_claim_names_its_tests(claim: str) -> None:
    cells = [cell.strip() for cell in claim.strip("|").split("|")]
    assert len(cells) == 2
    assert re.fullmatch(r"`[\w/]+\.py::[\w:]+`(, `[\w/]+\.py::[\w:]+`)*", cells[1])


@pytest.mark.parametrize("name", NAMED)
def test_each_named_test_is_there(name: str) -> None:
    path, _mark, test = name.partition("::")
    assert test in functions_of(ROOT / "tests" / path)


def test_only_the_lab_leaves_host_keys_unchecked() -> None:
    """The lab's machines are made anew each time, on a port of this machine."""
    places = [path for top in ("plugins", "roles", "playbooks") for path in (ROOT / top).rglob("*") if path.is_file()]
    unchecked = re.compile(
        r"StrictHostKeyChecking=(no|off)|host_key_checking|UserKnownHostsFile=/dev/null", re.IGNORECASE
    )
    found = [path for path in places if path.suffix in (".py", ".yml", ".j2") and unchecked.search(path.read_text())]
    assert [path for path in found if "lab" not in str(path.relative_to(ROOT))] == []


def test_checks_stay_out_of_the_journal() -> None:
    """Ansible writes the options of a module into the host's journal unless that says no."""
    module = ast.parse((ROOT / "plugins/modules/probe.py").read_text())
    (call,) = [
        node
        for node in ast.walk(module)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "AnsibleModule"
    ]
    assert any(word.arg == "no_log" and ast.literal_eval(word.value) is True for word in call.keywords)
