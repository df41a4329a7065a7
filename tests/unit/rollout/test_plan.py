# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which hosts a plan touches, in which batches, and what it refuses before anything is changed."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils import manifest
from ansible_collections.kpatch.fleet.plugins.module_utils.manifest import ManifestError
from ansible_collections.kpatch.fleet.plugins.plugin_utils import ledger, plan, plan_lines
from ansible_collections.kpatch.fleet.plugins.plugin_utils.errors import FleetError
from ansible_collections.kpatch.fleet.plugins.plugin_utils.publish import publish
from rollout_facts import IDENTITY, LOST, look, put


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


def having(*names: str, seen: dict[str, Any] | None = None) -> dict[str, Any]:
    """A look at a host that has the manifests of the patches *names*, which are on if *seen* shows them."""
    seen = seen or look("kpatch", "kpatch_fix", *(manifest.module_name(name) for name in names if name != "fix"))
    kept = [{"module": manifest.module_name(name), "name": name, **IDENTITY} for name in names]
    return {"host": {**seen["host"], "manifests": kept}}


def test_patch_that_left_the_set_is_named_and_keeps_the_host_from_being_applied(order: plan.Order) -> None:
    made = plan.make("id", order, {"h": having("fix", "old"), "g": having("fix")}, False)
    host = made["hosts"]["h"]
    assert (host["state"], host["obsolete"]) == ("staged", ["old"])
    assert host["reason"] == "old is on, and has left the patch set"
    assert (made["hosts"]["g"]["state"], made["hosts"]["g"]["obsolete"]) == ("applied", [])
    assert "off: old (not in the set any more), on h" in plan_lines.lines(made, 60)


@pytest.mark.parametrize("keep", [["old"], ["o*", "x"], ["*"]])
def test_patch_of_another_set_is_kept(order: plan.Order, keep: list[str]) -> None:
    host = plan.make("id", replace(order, keep=keep), {"h": having("fix", "old")}, False)["hosts"]["h"]
    assert (host["state"], host["obsolete"]) == ("applied", [])


def test_patch_that_left_the_set_counts_as_long_as_its_file_is_staged(order: plan.Order) -> None:
    seen = having("fix", "old", seen=look("kpatch", "kpatch_fix"))
    seen["host"]["staged"] = ["kpatch_old"]
    assert plan.make("id", order, {"h": seen}, False)["hosts"]["h"]["reason"].startswith("old is staged, and has left")


def test_patch_that_the_host_was_not_given_is_nobodys_business(order: plan.Order) -> None:
    seen = having("fix", "old")
    seen["host"]["patches"][1]["build_id"] = "ee"
    host = plan.make("id", order, {"h": seen}, False)["hosts"]["h"]
    assert (host["state"], host["obsolete"]) == ("applied", [])


def test_rollback_leaves_what_it_does_not_name(order: plan.Order) -> None:
    made = plan.make("id", replace(order, want="absent"), {"h": having("fix", "old")}, False)
    assert made["hosts"]["h"]["obsolete"] == []


def test_host_with_a_damaged_list_for_its_boots_is_in_no_batch(order: plan.Order) -> None:
    seen = look("kpatch", "kpatch_fix")
    seen["host"]["damaged"] = "enabled.json: is no list"
    made = plan.make("id", order, {"h": seen}, False)
    assert (made["hosts"]["h"]["state"], made["hosts"]["h"]["reason"]) == ("damaged", "enabled.json: is no list")
    assert made["batches"] == []


@pytest.mark.parametrize(
    ("at_boot", "state"), [(None, "applied"), (["kpatch", "kpatch_fix"], "applied"), ([], "staged")]
)
def test_what_would_not_be_on_again_at_a_boot_is_not_applied(
    order: plan.Order, at_boot: list[str] | None, state: str
) -> None:
    seen = look("kpatch", "kpatch_fix")
    seen["host"]["at_boot"] = at_boot
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


def on_each_other(*names: str, build_id: str = IDENTITY["build_id"]) -> dict[str, Any]:
    """A host with the patches *names* on, the lowest first; each replaces the function fix_show."""
    modules = [manifest.module_name(name) for name in names]
    seen = look("kpatch", *modules)["host"]
    held = [{"name": "vmlinux", "patched": True, "functions": [{"name": "fix_show", "sympos": 1}]}]
    patches = [{**patch, "objects": held} for patch in seen["patches"]]
    patches[0]["build_id"] = build_id
    kept = [{key: patch[key] for key in IDENTITY} | {"module": patch["module"]} for patch in patches]
    manifests = [{**one, "name": name} for one, name in zip(kept, names)]
    return {"host": {**seen, "patches": patches, "manifests": manifests, "at_boot": ["kpatch", *modules]}}


def test_patch_above_one_that_is_replaced_is_told_to_go_off_and_on(order: plan.Order, store: Path) -> None:
    put(store, "top", functions=[{"object": "vmlinux", "name": "fix_show", "sympos": 0, "reason": "changed"}])
    both = replace(order, patches=[{"name": "fix"}, {"name": "top"}])
    looks = {"h": on_each_other("fix", "top", build_id="dd"), "g": look()}
    made = plan.make("id", both, looks, False)
    assert {name: host["again"] for name, host in made["hosts"].items()} == {"h": ["top"], "g": []}
    assert "off and on: top (belongs above others of the set), on h" in plan_lines.lines(made, 80)


def test_set_that_is_on_in_another_order_is_not_applied(order: plan.Order, store: Path) -> None:
    put(store, "top", functions=[{"object": "vmlinux", "name": "fix_show", "sympos": 0, "reason": "changed"}])
    both = replace(order, patches=[{"name": "fix"}, {"name": "top"}])
    looks = {"h": on_each_other("fix", "top"), "g": on_each_other("top", "fix")}
    made = plan.make("id", both, looks, False)
    assert {name: (host["state"], host["again"]) for name, host in made["hosts"].items()} == {
        "h": ("applied", []),
        "g": ("staged", ["top"]),
    }
    assert "top is below a patch that replaces the same function" in made["hosts"]["g"]["reason"]


def test_patch_of_another_set_above_one_that_is_replaced_keeps_us_away(order: plan.Order) -> None:
    kept = replace(order, keep=["top"])
    made = plan.make("id", kept, {"h": on_each_other("fix", "top", build_id="dd")}, False)
    assert made["hosts"]["h"]["state"] == "foreign-patch"
    assert "kpatch_top replaces fix_show of vmlinux, too, on top of kpatch_fix" in made["hosts"]["h"]["reason"]
    for order_of in (("top", "fix"), ("fix",)):
        seen = on_each_other(*order_of)
        seen["host"]["patches"][-1]["build_id"] = seen["host"]["manifests"][-1]["build_id"] = "dd"
        assert plan.make("id", kept, {"h": seen}, False)["hosts"]["h"]["state"] == "staged"
    assert plan.make("id", order, {"h": on_each_other("fix", "top", build_id="dd")}, False)["hosts"]["h"]["loses"]


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


@pytest.mark.parametrize("name", ["manifest.json", "kpatch_fix.ko"])
def test_way_to_the_store_counts_as_well(tmp_path: Path, name: str) -> None:
    """Who can write above the store, or where a link leads to, can put another one in its place."""
    above = tmp_path / "above"
    far = tmp_path / "far/away"
    put(far, "kpatch")
    image = put(far, "fix")
    above.mkdir()
    (above / "store").symlink_to("../far/away")
    wanted = plan.Order("applied", [{"name": "fix"}], above / "store")
    assert plan.make("id", wanted, {"h": look()}, False)["hosts"]["h"]["state"] == "absent"
    for place in (above, tmp_path / "far", image.with_name(name)):
        mode = place.stat().st_mode
        place.chmod(mode | 0o002)
        with pytest.raises(FleetError, match=f"{place}: everybody can write to it"):
            plan.make("id", wanted, {"h": look()}, False)
        place.chmod(mode)


def test_sticky_bit_keeps_others_from_what_is_not_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store below /tmp is ours as long as its directory is."""
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o1777)
    put(tmp_path / "shared/store", "fix")
    assert plan.artifact(tmp_path / "shared/store", "6.1.0-1", "fix")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    if os.getuid() == 0:
        os.chown(tmp_path / "shared/store", 1234, -1)
    with pytest.raises(FleetError, match="shared: everybody can write to it"):
        plan.artifact(tmp_path / "shared/store", "6.1.0-1", "fix")


def test_rollout_is_its_owners_alone(order: plan.Order, tmp_path: Path) -> None:
    """Plan, ledger, baseline and reports name hosts, kernels and what is wrong with them."""
    before = os.umask(0)
    try:
        directory = plan.create(tmp_path / "home", "one", check=False)
        plan.write(directory, plan.make("one", order, {"h": look()}, False))
        ledger.append(directory / plan.LEDGER, "plan", id="one")
        publish(directory / "report.html", "text")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (directory, *directory.iterdir())}
    files = ("plan.json", "hosts.jsonl", "ledger.jsonl", "report.html")
    assert modes == {"one": 0o700, **dict.fromkeys(files, 0o600)}


def test_plan_keeps_the_digests_of_what_it_was_made_with(order: plan.Order) -> None:
    made = plan.make("id", order, {"h": look()}, False)
    for kept in made["kernels"]["6.1.0-1"]["artifacts"].values():
        assert {"sha256", "input_sha256", "srcversion", "build_id", "signer"} <= set(kept)
    assert plan.digests(made, look()["host"]) == dict.fromkeys(("fix", "kpatch"), hashlib.sha256(b"ko").hexdigest())


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
