# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What would hurt a fleet if it did not hold: where a rollout stops, and what it leaves untouched."""

from __future__ import annotations

import json
import shutil

import pytest
from conftest import OTHER, RELEASE, Fleet, store

EVERYONE = ["h1", "h2", "h3", "h4", "h5"]


def test_rolls_out_in_batches_and_a_second_run_changes_nothing(fleet: Fleet) -> None:
    first = fleet.run("rollout")
    assert first.status == 0
    assert fleet.touched[0] == "h1"
    assert sorted(fleet.touched) == fleet.patched() == EVERYONE
    assert json.loads((fleet.rollout() / "plan.json").read_text())["batches"] == [["h1"], ["h2", "h3"], ["h4", "h5"]]
    assert fleet.states() == dict.fromkeys(EVERYONE, "applied")
    fleet.forget()
    second = fleet.run("rollout")
    assert (second.status, second.changed, fleet.touched) == (0, {}, [])


@pytest.mark.fault("canary")
@pytest.mark.parametrize("step", ["core", "patch"])
@pytest.mark.parametrize(("fault", "state"), [("fail", "apply-failed"), ("lost", "lost"), ("reboot", "lost")])
def test_canary_that_goes_wrong_stops_it(fleet: Fleet, step: str, fault: str, state: str) -> None:
    """The canary refuses the patch, is lost, or reboots, alone in its batch.

    No later batch begins.
    """
    fleet.update("h1", faults={step: fault})
    run = fleet.run("rollout")
    assert run.status != 0
    assert run.failed == ["h1"]
    assert fleet.touched == ["h1"]
    assert fleet.states() == {"h1": state, **dict.fromkeys(EVERYONE[1:], "held")}
    assert "STOPPED before batch 2 of 3" in run.output


@pytest.mark.fault("taint")
def test_unexpected_taint_stops_it(fleet: Fleet) -> None:
    """A kernel is tainted by what live patching does not explain.

    No later batch begins.
    """
    fleet.update("h1", faults={"patch": "taint"})
    assert fleet.run("rollout").failed == ["h1"]
    assert (fleet.touched, fleet.states()["h1"]) == (["h1"], "needs-check")


@pytest.mark.fault("lost-before")
def test_host_that_is_lost_before_it_begins_stops_it(fleet: Fleet) -> None:
    """A host can not be reached when the plan is made.

    No host is touched.
    """
    fleet.update("h5", lost=True)
    run = fleet.run("rollout")
    assert run.failed == ["h5"]
    assert fleet.touched == []
    assert fleet.states()["h5"] == "lost"


def test_host_lost_in_the_second_batch_leaves_the_third_alone_and_a_rerun_goes_on(fleet: Fleet) -> None:
    fleet.update("h3", faults={"core": "lost"})
    run = fleet.run("rollout")
    assert run.failed == ["h3"]
    assert sorted(fleet.touched) == ["h1", "h2", "h3"]
    assert fleet.states() == {"h1": "applied", "h2": "applied", "h3": "lost", "h4": "held", "h5": "held"}
    fleet.update("h3", faults={}, lost=False)
    fleet.forget()
    assert fleet.run("rollout").status == 0
    assert fleet.touched[0] == "h3"
    assert sorted(fleet.touched) == ["h3", "h4", "h5"]
    assert fleet.patched() == EVERYONE


@pytest.mark.fault("check-mode")
def test_check_mode_says_what_it_would_do_and_does_nothing(fleet: Fleet) -> None:
    """The rollout runs in check mode.

    Neither hosts nor controller are changed.
    """
    run = fleet.run("rollout", "--check")
    assert run.status == 0
    assert run.changed.keys() == set(EVERYONE)
    assert "would do" in run.output
    assert (fleet.touched, fleet.bare()) == ([], EVERYONE)
    assert not (fleet.home / "rollouts").exists()


def test_rollback_in_check_mode_does_nothing(fleet: Fleet) -> None:
    assert fleet.run("rollout").status == 0
    fleet.forget()
    run = fleet.run("rollback", "--check")
    assert (run.status, fleet.touched, fleet.patched()) == (0, [], EVERYONE)


@pytest.mark.parametrize(("option", "status"), [("true", 2), ("false", 0)])
def test_host_without_artifact_is_named_and_left_alone(fleet: Fleet, option: str, status: int) -> None:
    host = fleet.read("h2")["host"]
    fleet.update("h2", host={**host, "kernel": {**host["kernel"], "release": OTHER}})
    run = fleet.run("rollout", "-e", f"kpatch_require_all={option}")
    assert run.status == status
    assert fleet.states()["h2"] == "needs-build"
    assert sorted(fleet.touched) == ["h1", "h3", "h4", "h5"]


def test_rollback_takes_everything_off_and_again_changes_nothing(fleet: Fleet) -> None:
    assert fleet.run("rollout").status == 0
    assert fleet.run("rollback").status == 0
    assert fleet.bare() == EVERYONE
    again = fleet.run("rollback")
    assert (again.status, again.changed) == (0, {})


def test_rollback_stops_at_a_host_that_does_not_let_go(fleet: Fleet) -> None:
    assert fleet.run("rollout").status == 0
    fleet.forget()
    fleet.update("h1", faults={"patch": "fail"})
    assert fleet.run("rollback").failed == ["h1"]
    assert (fleet.touched, fleet.states()["h1"]) == (["h1"], "stuck")


def test_rollback_of_one_patch_keeps_the_core_module_for_the_other(fleet: Fleet) -> None:
    assert fleet.run("rollout").status == 0
    run = fleet.run("rollback", "-e", json.dumps({"kpatch_patches": [{"name": "two"}]}))
    assert run.status == 0
    assert [patch["module"] for patch in fleet.read("h1")["host"]["patches"]] == ["kpatch_one"]
    assert fleet.read("h1")["host"]["core"]


def test_what_a_host_says_is_data(fleet: Fleet) -> None:
    """Its root has every word of what is read of it: none becomes a template, a command, or moves the terminal."""
    trap = fleet.directory / "sprung"
    template = f"{{{{ lookup('pipe', 'touch {trap}') }}}}"
    host = fleet.read("h1")["host"]
    host["kernel"]["version"] = template
    host["patches"] = [{"module": template, "srcversion": template, "build_id": "\x1b[2J", "enabled": True}]
    host["livepatches"] = [{"module": f"\x1b[31m{template}", "enabled": True, "objects": []}]
    fleet.update("h1", host=host, faults={"patch": "fail"})
    run = fleet.run("rollout")
    assert (run.failed, fleet.touched) == (["h1"], ["h1"])
    assert not trap.exists()
    assert "\x1b" not in run.output
    fleet.update("h1", host={**host, "kernel": {**host["kernel"], "release": "../../etc"}})
    fleet.forget()
    refused = fleet.run("rollout")
    assert (refused.status != 0, fleet.touched) == (True, [])
    assert "'../../etc' is not a kernel release" in refused.output


def test_set_for_the_kernels_own_livepatch_goes_without_the_core_module(fleet: Fleet) -> None:
    """There is none in the store, none comes to a host, and none is missed."""
    shutil.rmtree(fleet.home / "store" / RELEASE / "kpatch")
    for name in fleet.patches:
        store(fleet.home / "store", RELEASE, name, backend="livepatch")
    assert fleet.run("rollout").status == 0
    assert fleet.patched() == EVERYONE
    assert [name for name in EVERYONE if fleet.read(name)["host"]["core"]] == []
    assert fleet.states() == dict.fromkeys(EVERYONE, "applied")
    plan = json.loads((fleet.rollout() / "plan.json").read_text())
    assert sorted(plan["kernels"][RELEASE]["artifacts"]) == ["one", "two"]
    fleet.forget()
    assert (fleet.run("rollout").status, fleet.touched) == (0, [])
    assert fleet.run("status").status == 0
    assert fleet.run("rollback").status == 0
    assert fleet.bare() == EVERYONE


def test_one_patch_for_the_core_module_among_others_brings_it_along(fleet: Fleet) -> None:
    store(fleet.home / "store", RELEASE, "one", backend="livepatch")
    assert fleet.run("rollout").status == 0
    assert all(fleet.read(name)["host"]["core"] for name in EVERYONE)
    run = fleet.run("rollback", "-e", json.dumps({"kpatch_patches": [{"name": "two"}]}))
    assert run.status == 0
    assert [name for name in EVERYONE if fleet.read(name)["host"]["core"]] == [], "nothing that stays needs it"
    assert fleet.read("h1")["host"]["patches"][0]["module"] == "kpatch_one"


@pytest.mark.fault("controller-killed")
def test_ledger_tells_what_was_under_way_when_the_controller_was_killed(fleet: Fleet) -> None:
    """The controller and its workers are killed within a batch.

    The ledger tells what was under way, and the next run ends it.
    """
    fleet.update("h3", faults={"patch": "slow"})
    fleet.run_and_kill("rollout", '"host": "h2"')
    assert fleet.run("report").status == 0
    states = fleet.states()
    assert states["h1"] == "applied"
    assert states["h3"] == "unknown"
    assert states["h4"] == states["h5"] == "held"
    fleet.update("h3", faults={})
    assert fleet.run("rollout").status == 0
    assert fleet.patched() == EVERYONE


@pytest.mark.fault("tampered-artifact")
def test_artifact_with_one_byte_changed_is_refused_before_anything(fleet: Fleet) -> None:
    """An artifact in the store is changed by one byte.

    It is refused before any host is touched.
    """
    image = next(fleet.home.glob("store/*/one/*/kpatch_one.ko"))
    image.write_bytes(b"X" + image.read_bytes()[1:])
    run = fleet.run("rollout")
    assert run.status != 0
    assert "is not the artifact of its manifest" in run.output
    assert fleet.touched == []


@pytest.mark.fault("replay")
def test_old_artifact_put_back_into_the_store_is_refused_before_anything(fleet: Fleet) -> None:
    """Somebody puts an old artifact, manifest and all, where the new one was.

    The plan is refused and names it; only an explicit downgrade takes it.
    """
    path = next(fleet.home.glob("store/*/one/*/manifest.json"))
    new = json.loads(path.read_text())
    path.write_text(json.dumps({**new, "serial": 1_800_000_000}))
    assert fleet.run("rollout").status == 0
    (fleet.hosts / "touched.log").unlink()
    path.write_text(json.dumps({**new, "serial": 1_700_000_000}))
    run = fleet.run("rollout")
    assert run.status != 0
    assert "an older build is not taken for a newer one" in " ".join(run.output.split())
    assert fleet.touched == []
    assert fleet.run("rollout", "-e", "kpatch_downgrade=true").status == 0


@pytest.mark.parametrize("name", ["../one", "a b", "a;reboot", "kpatch"])
def test_name_that_is_no_name_is_refused(fleet: Fleet, name: str) -> None:
    run = fleet.run("rollout", "-e", json.dumps({"kpatch_patches": [{"name": name}]}))
    assert run.status != 0
    assert "kpatch_patches" in run.output
    assert fleet.touched == []


def test_limit_leaves_the_others_out(fleet: Fleet) -> None:
    fleet.update("h1", lost=True)
    assert fleet.run("rollout", "--limit", "all:!h1").status == 0
    assert sorted(fleet.touched) == ["h2", "h3", "h4", "h5"]


def test_survey_and_status_touch_nothing_and_tell_by_their_status(fleet: Fleet) -> None:
    assert fleet.run("survey").status == 0
    assert fleet.run("status").status != 0
    assert fleet.run("status", "-e", "kpatch_require_all=false").status == 0
    fleet.update("h4", lost=True)
    run = fleet.run("survey")
    assert run.failed == ["h4"]
    assert "h4 is lost" in run.output
    assert fleet.touched == []


DAMAGED = "/var/lib/kpatch.fleet/x/enabled.json: is no list of modules; look at its disk, then remove it"


@pytest.mark.parametrize(("option", "status"), [("true", 2), ("false", 0)])
def test_host_whose_list_for_boots_is_damaged_is_named_and_left_alone(fleet: Fleet, option: str, status: int) -> None:
    fleet.update("h1", host={**fleet.read("h1")["host"], "damaged": DAMAGED, "at_boot": None})
    run = fleet.run("rollout", "-e", f"kpatch_require_all={option}")
    assert (run.status, fleet.states()) == (status, {"h1": "damaged", **dict.fromkeys(EVERYONE[1:], "applied")})
    assert sorted(fleet.touched) == EVERYONE[1:]
    told = " ".join(run.output.split())
    assert f"not in a batch: h1 is damaged: {DAMAGED}" in told
    assert "next: h1: look at its disk, remove the file that the reason names" in told
    assert fleet.run("status").failed == ["h1"]


@pytest.mark.parametrize(("budget", "touched"), [(0, ["h1", "h2"]), (1, ["h1", "h2", "h4", "h5"])])
def test_list_that_is_damaged_after_the_plan_counts_as_a_failure(fleet: Fleet, budget: int, touched: list[str]) -> None:
    fleet.policy["budget"] = budget
    assert fleet.run("rollout", "-e", "kpatch_plan_only=true").status == 0
    fleet.update("h3", host={**fleet.read("h3")["host"], "damaged": DAMAGED, "at_boot": None})
    run = fleet.run("rollout", "-e", "kpatch_plan=newest")
    assert (run.failed, sorted(fleet.touched), fleet.states()["h3"]) == (["h3"], touched, "damaged")


def test_rollback_does_not_mind_a_damaged_list(fleet: Fleet) -> None:
    assert fleet.run("rollout").status == 0
    fleet.update("h1", host={**fleet.read("h1")["host"], "damaged": DAMAGED, "at_boot": None})
    assert (fleet.run("rollback").status, fleet.bare()) == (0, EVERYONE)


def patches_on(fleet: Fleet, name: str = "h1") -> list[str]:
    return [patch["module"] for patch in fleet.read(name)["host"]["patches"]]


def plan_line(output: str, begin: str) -> str:
    return next((line for line in output.splitlines() if line.startswith(begin)), "")


def test_patch_that_left_the_set_is_taken_off(fleet: Fleet) -> None:
    """The plan names it, check mode and status tell it, the rollout takes it off last, a rerun does nothing.

    A patch that is none of the host's own stays.
    """
    assert fleet.run("rollout").status == 0
    host = fleet.read("h2")["host"]
    stranger = {**host["patches"][0], "module": "kpatch_stranger"}
    fleet.update("h2", host={**host, "patches": [*host["patches"], stranger]})
    fleet.forget()
    fleet.patches = ("two", "three")
    drop = ("-e", "kpatch_drop=one")
    store(fleet.home / "store", RELEASE, "three")
    status = fleet.run("status")
    assert status.failed == EVERYONE
    check = fleet.run("rollout", "--check", *drop)
    assert (check.status, fleet.touched, patches_on(fleet)) == (0, [], ["kpatch_one", "kpatch_two"])
    assert "patch one: would change" in check.output
    run = fleet.run("rollout", *drop)
    assert run.status == 0
    assert plan_line(run.output, "off: one") == "off: one (not in the set any more), on h1, h2, h3, h4, h5"
    plan = json.loads((fleet.rollout() / "plan.json").read_text())
    assert {name: planned["obsolete"] for name, planned in plan["hosts"].items()} == dict.fromkeys(EVERYONE, ["one"])
    lines = (fleet.hosts / "touched.log").read_text().splitlines()
    assert [line for line in lines if line.startswith("h1 ")] == ["h1 patch three", "h1 patch one"]
    assert patches_on(fleet) == ["kpatch_two", "kpatch_three"]
    assert patches_on(fleet, "h2") == ["kpatch_two", "kpatch_stranger", "kpatch_three"]
    assert fleet.states() == dict.fromkeys(EVERYONE, "applied")
    fleet.forget()
    again = fleet.run("rollout")
    assert (again.status, again.changed, fleet.touched) == (0, {}, [])
    assert fleet.run("status").status == 0


def test_set_that_only_lost_a_patch_is_no_applied_one(fleet: Fleet) -> None:
    assert fleet.run("rollout").status == 0
    fleet.patches = ("two",)
    status = fleet.run("status")
    assert "h1 is staged: one is on, and has left the patch set" in " ".join(status.output.split())
    fleet.update("h2", faults={"obsolete": "fail"})
    run = fleet.run("rollout", "-e", "kpatch_drop=one")
    assert (run.failed, fleet.states()["h2"]) == (["h2"], "apply-failed")
    assert patches_on(fleet) == ["kpatch_two"]


@pytest.mark.parametrize("callback", ["ansible.builtin.default", "kpatch.fleet.progress"])
def test_plan_shows_artifacts_and_gates_on_a_narrow_terminal(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, callback: str
) -> None:
    monkeypatch.setenv("ANSIBLE_STDOUT_CALLBACK", callback)
    monkeypatch.setenv("COLUMNS", "60")
    run = fleet.run("rollout", "-e", "kpatch_plan_only=true")
    lines = run.output.splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith("plan "))
    told = lines[begin : next(number for number, line in enumerate(lines) if line.startswith("batch 3 of 3"))]
    plan = json.loads((fleet.rollout() / "plan.json").read_text())
    for name, artifact in plan["kernels"][RELEASE]["artifacts"].items():
        assert any(name in line and artifact["sha256"][:16] in line for line in told), name
    assert "gates:" in told
    assert "  may fail: 0, and no canary" in told
    assert [line for line in told if len(line) > 60] == []
    again = fleet.run("rollout", "-e", "kpatch_plan=newest")
    assert again.status == 0
    assert "gates:" in again.output.splitlines()


def test_two_sets_on_one_host_leave_each_other_alone_if_they_say_so(fleet: Fleet) -> None:
    fleet.patches = ("one",)
    assert fleet.run("rollout").status == 0
    fleet.patches = ("two",)
    keep = ("-e", json.dumps({"kpatch_keep": ["o*"]}))
    run = fleet.run("rollout", *keep)
    assert (run.status, patches_on(fleet)) == (0, ["kpatch_one", "kpatch_two"])
    assert plan_line(run.output, "off:") == ""
    assert fleet.run("status", *keep).status == 0
    assert fleet.run("status").failed == EVERYONE


@pytest.mark.parametrize("options", [(), ("--check",), ("-e", "kpatch_plan_only=true"), ("-e", "kpatch_drop=three")])
def test_set_that_takes_off_what_nothing_replaces_is_refused_without_a_word(
    fleet: Fleet, options: tuple[str, ...]
) -> None:
    """Who names one fix and means to add it loses nothing: no host is touched, and both ways on are named."""
    fleet.patches = ("one",)
    assert fleet.run("rollout").status == 0
    fleet.forget()
    rollouts = sorted(fleet.home.glob("rollouts/*"))
    fleet.patches = ("two",)
    run = fleet.run("rollout", *options)
    assert (run.status != 0, fleet.touched, patches_on(fleet)) == (True, [], ["kpatch_one"])
    assert sorted(fleet.home.glob("rollouts/*")) == rollouts
    told = " ".join(run.output.split())
    assert "5 hosts would lose 1 patch: one on h1, h2, h3, h4, h5" in told
    assert "-e kpatch_keep=one" in told
    assert "-e kpatch_drop=one" in told


def test_plan_and_report_begin_with_what_hosts_lose(fleet: Fleet) -> None:
    assert fleet.run("rollout").status == 0
    fleet.patches = ("two",)
    frozen = fleet.run("rollout", "-e", "kpatch_drop=o*", "-e", "kpatch_plan_only=true")
    lines = frozen.output.splitlines()
    head = "5 hosts LOSE 1 patch, with nothing in place of it: one"
    assert lines[[line.startswith("plan ") for line in lines].index(True) + 1] == head
    assert (frozen.status, patches_on(fleet)) == (0, ["kpatch_one", "kpatch_two"])
    run = fleet.run("rollout", "-e", "kpatch_plan=newest")
    assert (run.status, patches_on(fleet)) == (0, ["kpatch_two"])
    assert run.output.splitlines().count(head) == 2, "the plan and the report"
    assert fleet.report()["loses"] == {"one": EVERYONE}
    for name in ("report.html", "report.md"):
        assert head in (fleet.rollout() / name).read_text()


def test_resumed_plan_asks_about_what_has_come_since(fleet: Fleet) -> None:
    fleet.patches = ("two",)
    assert fleet.run("rollout", "-e", "kpatch_plan_only=true").status == 0
    fleet.patches = ("one",)
    assert fleet.run("rollout", "--limit", "h3").status == 0
    fleet.forget()
    fleet.patches = ("two",)
    plan = next(path.parent.name for path in fleet.home.glob("rollouts/*/plan.json") if '"h5"' in path.read_text())
    for options in ((), ("--check",)):
        run = fleet.run("rollout", "-e", f"kpatch_plan={plan}", *options)
        assert (run.status != 0, fleet.touched) == (True, [])
        assert "1 host would lose 1 patch: one on h3" in " ".join(run.output.split())
    assert fleet.run("rollout", "-e", f"kpatch_plan={plan}", "-e", "kpatch_keep=one").status == 0
    assert patches_on(fleet, "h3") == ["kpatch_one", "kpatch_two"]
