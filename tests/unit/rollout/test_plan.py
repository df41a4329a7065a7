# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which hosts a plan touches, in which batches, and what it refuses before anything is changed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils.manifest import ManifestError
from ansible_collections.kpatch.fleet.plugins.plugin_utils import plan
from ansible_collections.kpatch.fleet.plugins.plugin_utils.errors import FleetError
from rollout_facts import LOST, look, put


@pytest.mark.parametrize(
    ("seen", "state"),
    [
        (look(), "absent"),
        (look("kpatch"), "staged"),
        (look("kpatch", "kpatch_fix"), "applied"),
        (look(release="6.9"), "needs-build"),
        (look(build_id="bb"), "needs-build"),
        (LOST, "lost"),
        ({}, "lost"),
    ],
)
def test_state_of_a_host(order: plan.Order, seen: dict[str, Any], state: str) -> None:
    assert plan.make("id", order, {"h": seen}, False)["hosts"]["h"]["state"] == state


def test_store_that_is_not_there_is_named(order: plan.Order, tmp_path: Path) -> None:
    host = plan.make("id", replace(order, store=tmp_path / "gone"), {"h": look()}, False)["hosts"]["h"]
    assert host["state"] == "needs-build"
    assert str(tmp_path / "gone") in host["reason"]


def test_only_hosts_to_be_changed_are_in_batches(order: plan.Order) -> None:
    looks = {"done": look("kpatch", "kpatch_fix"), "old": look(release="6.9"), "lost": LOST, "new": look()}
    assert plan.make("id", order, looks, False)["batches"] == [["new"]]


def test_another_build_of_the_patch_is_not_taken_for_it(order: plan.Order) -> None:
    seen = look("kpatch", "kpatch_fix")
    seen["host"]["patches"][0]["srcversion"] = "other"
    assert plan.make("id", order, {"h": seen}, False)["hosts"]["h"]["state"] == "staged"


def test_patch_that_was_built_with_another_consistency_is_not_what_was_asked_for(order: plan.Order) -> None:
    asked = replace(order, patches=[{"name": "fix", "switch": "thread"}])
    host = plan.make("id", asked, {"h": look()}, False)["hosts"]["h"]
    assert (host["state"], "built with switch: kernel" in host["reason"]) == ("needs-build", True)


def test_live_patch_of_the_kernels_own_on_our_function_keeps_us_away(order: plan.Order) -> None:
    seen = look()
    held = {"name": "vmlinux", "functions": [{"name": "fix_show"}]}
    seen["host"]["livepatches"] = [{"module": "other", "objects": [held]}]
    assert plan.make("id", order, {"h": seen}, False)["hosts"]["h"]["state"] == "foreign-patch"


def test_damaged_artifact_is_refused_when_the_plan_is_made(order: plan.Order, store: Path) -> None:
    next(store.glob("*/fix/*/kpatch_fix.ko")).write_bytes(b"KO")
    with pytest.raises(ManifestError, match="is not the artifact of its manifest"):
        plan.make("id", order, {"h": look()}, False)


def test_rollback_needs_no_artifact_and_leaves_the_core_to_a_patch_that_stays(tmp_path: Path) -> None:
    off = plan.Order("absent", [{"name": "fix"}], tmp_path)
    looks = {
        "both": look("kpatch", "kpatch_fix", "kpatch_other"),
        "gone": look("kpatch", "kpatch_other"),
        "core": look("kpatch"),
        "bare": look(),
    }
    states = {name: host["state"] for name, host in plan.make("id", off, looks, False)["hosts"].items()}
    assert states == {"both": "applied", "gone": "absent", "core": "staged", "bare": "absent"}


def test_core_module_counts_only_where_a_patch_needs_it(order: plan.Order, store: Path) -> None:
    """A store without one, and one that is rebuilt meanwhile, are nothing to a set for the kernel's own livepatch."""
    put(store, "fix", input_sha256="2" * 64, backend="livepatch")
    made = plan.make("id", order, {"on": look("kpatch_fix"), "off": look()}, False)
    assert {name: host["state"] for name, host in made["hosts"].items()} == {"on": "applied", "off": "absent"}
    assert not plan.loads_core(made, look()["host"])
    put(store, "kpatch", input_sha256="3" * 64)
    assert plan.changed_artifacts(made) == []
    put(store, "fix", input_sha256="4" * 64)
    assert plan.loads_core(plan.make("id", order, {"off": look()}, False), look()["host"])


def test_patch_for_livepatch_that_stays_does_not_hold_the_core_module() -> None:
    host = look("kpatch", "kpatch_fix", "kpatch_other")["host"]
    assert not plan.removes_core(True, ["fix"], host)
    host["patches"][1]["backend"] = "livepatch"
    assert plan.removes_core(True, ["fix"], host)


def test_new_build_in_the_store_is_noticed(order: plan.Order, store: Path) -> None:
    made = plan.make("id", order, {"h": look()}, False)
    assert plan.changed_artifacts(made) == []
    put(store, "fix", input_sha256="2" * 64)
    assert plan.changed_artifacts(made) == ["6.1.0-1/fix"]


def test_same_input_with_other_bytes_is_noticed(order: plan.Order, store: Path) -> None:
    made = plan.make("id", order, {"h": look()}, False)
    path = next(store.glob("*/fix/*/manifest.json"))
    (path.parent / "kpatch_fix.ko").write_bytes(b"OK")
    other = {**json.loads(path.read_text()), "sha256": hashlib.sha256(b"OK").hexdigest()}
    path.write_text(json.dumps(other))
    assert plan.changed_artifacts(made) == ["6.1.0-1/fix"]


@pytest.mark.parametrize("place", ["", "6.1.0-1", "6.1.0-1/fix", "6.1.0-1/fix/" + "1" * 64, "file"])
def test_store_that_everybody_can_write_to_is_refused(order: plan.Order, store: Path, place: str) -> None:
    path = next(store.glob("*/fix/*/*.ko")) if place == "file" else store / place
    path.chmod(path.stat().st_mode | 0o002)
    with pytest.raises(FleetError, match="everybody can write to it"):
        plan.make("id", order, {"h": look()}, False)


def test_plan_is_read_back_as_it_was_written_and_not_made_twice(order: plan.Order, tmp_path: Path) -> None:
    made = plan.make("one", order, {"h": look()}, False)
    directory = plan.create(tmp_path, "one", check=False)
    plan.write(directory, made)
    assert plan.load(directory) == made
    with pytest.raises(FleetError, match="there was a rollout of that name"):
        plan.create(tmp_path, "one", check=False)


@pytest.mark.parametrize("identity", ["", "..", "../a", "a b", "a/b", "-a"])
def test_names_that_can_not_be_a_rollouts(tmp_path: Path, identity: str) -> None:
    with pytest.raises(FleetError, match="kpatch_rollout_id"):
        plan.create(tmp_path, identity, check=False)
