# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""If this breaks, who means to add a fix opens what the others mend; or every upgrade asks whether it is meant."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils import manifest
from ansible_collections.kpatch.fleet.plugins.plugin_utils import losses, plan, plan_lines, resume
from ansible_collections.kpatch.fleet.plugins.plugin_utils.errors import FleetError
from rollout_facts import IDENTITY, look, put

ON = {"backend": "kpatch", "enabled": True, "transition": False, **IDENTITY}


def having(*names: str, **changes: Any) -> dict[str, Any]:
    """A look at a host on which the patches *names* are on, as it has the manifests of."""
    modules = [manifest.module_name(name) for name in names]
    kept = [{"module": module, "name": name, **IDENTITY} for module, name in zip(modules, names)]
    on = [{"module": module, **ON, **changes} for module in modules]
    return {"host": {**look("kpatch")["host"], "patches": on, "manifests": kept}}


def lost(order: plan.Order, **looks: Any) -> losses.Losses:
    return losses.of(plan.make("id", order, looks, False))


def test_patch_that_nothing_replaces_is_refused_with_hosts_and_both_ways_on(order: plan.Order) -> None:
    looks = {f"h{number}": having("old") for number in range(12)} | {"both": having("old", "fix", "other")}
    found = lost(order, **looks)
    assert {name: len(hosts) for name, hosts in found.items()} == {"old": 13, "other": 1}
    with pytest.raises(FleetError) as error:
        losses.refuse(found, ["x"])
    for told in (
        "13 hosts would lose 2 patches: ",
        "old on h0, h1, h2, h3, h4, h5, h6, h7, h8, h9 and 3 more; other on both",
        "-e kpatch_keep=old,other",
        "-e kpatch_drop=old,other",
    ):
        assert told in str(error.value)


@pytest.mark.parametrize("drop", [["old", "other"], ["o*"], ["*"]])
def test_word_that_it_is_to_go_is_enough_and_the_plan_begins_with_it(order: plan.Order, drop: list[str]) -> None:
    made = plan.make("id", replace(order, drop=drop), {"h": having("old", "other", "fix")}, False)
    losses.refuse(losses.of(made), drop)
    assert plan_lines.lines(made, 200)[1] == "1 host LOSE 2 patches, with nothing in place of it: old, other"


def test_half_a_word_is_not_enough(order: plan.Order) -> None:
    with pytest.raises(FleetError, match="1 host would lose 1 patch: other on h"):
        losses.refuse(lost(order, h=having("old", "other")), ["old"])


def test_newer_build_of_the_same_patch_loses_nothing(order: plan.Order) -> None:
    assert lost(order, h=having("fix", build_id="dd")) == {}


@pytest.mark.parametrize(
    ("seen", "lose"),
    [
        (having("old"), []),
        (having("old", "fix", build_id="dd"), []),
        (having("old", "fix"), ["old"]),
        (having("old", backend="livepatch"), ["old"]),
        ({"host": {**having("old")["host"], "patches": [], "staged": ["kpatch_old"]}}, []),
    ],
    ids=["it comes", "it comes as a newer build", "it is on already", "of another backend", "only staged"],
)
def test_cumulative_patch_takes_the_place_of_what_it_finds(
    order: plan.Order, store: Path, seen: dict[str, Any], lose: list[str]
) -> None:
    put(store, "fix", input_sha256="2" * 64, replace=True)
    if seen["host"]["patches"][:1] and seen["host"]["patches"][0]["build_id"] != IDENTITY["build_id"]:
        seen["host"]["manifests"] = [{**one, "build_id": "dd"} for one in seen["host"]["manifests"]]
    made = plan.make("id", order, {"h": seen}, False)
    assert (made["hosts"]["h"]["obsolete"], made["hosts"]["h"]["loses"]) == (["old"], lose)


def test_what_is_kept_and_what_a_rollback_names_is_not_asked_about(order: plan.Order) -> None:
    assert lost(replace(order, keep=["old"]), h=having("old")) == {}
    assert lost(replace(order, want="absent"), h=having("old", "fix")) == {}


def test_host_that_is_not_touched_loses_nothing(order: plan.Order) -> None:
    other = having("old")
    other["host"]["kernel"]["release"] = "6.9"
    assert lost(order, h=other) == {}


def test_resumed_plan_holds_to_its_word(order: plan.Order) -> None:
    made = plan.make("id", replace(order, drop=["old"], keep=["net-*"]), {"h": having("old")}, False)
    again = resume.order(replace(order, drop=["other"]), made)
    assert (again.drop, again.keep) == (["old", "other"], ["net-*"])
