# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a soak sees, what is taken back for it, and how a rollout is taken up again."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import OTHER, RELEASE, Fleet, store

EVERYONE = ["h1", "h2", "h3", "h4", "h5"]
SOAK = {"soak": 2, "looks": 2}
CHECK = {"checks": [{"service": "web"}]}


def other_kernel(fleet: Fleet, *names: str) -> None:
    for name in ("kpatch", *fleet.patches):
        store(fleet.home / "store", OTHER, name)
    for name in names:
        host = fleet.read(name)["host"]
        fleet.update(name, host={**host, "kernel": {**host["kernel"], "release": OTHER}})


def plan(fleet: Fleet) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((fleet.rollout() / "plan.json").read_text())
    return found


def counted(fleet: Fleet, name: str, oops: int) -> dict[str, Any]:
    """The host, as its kernel shows itself after *oops* oopses."""
    host = fleet.read(name)["host"]
    return {**host, "kernel": {**host["kernel"], "counters": {"oops": oops, "warn": 0}}}


def test_a_soak_that_sees_nothing_lets_it_go_on(fleet: Fleet) -> None:
    fleet.policy = {**SOAK, **CHECK}
    assert fleet.run("rollout").status == 0
    assert fleet.patched() == EVERYONE
    assert [entry["verdict"] for entry in fleet.ledger("verdict")] == ["pass"] * 3
    assert len(fleet.ledger("look")) == 2 * len(EVERYONE)


@pytest.mark.fault("lost-after-success")
def test_canary_that_is_lost_after_its_success_stops_it(fleet: Fleet) -> None:
    """The canary is lost after its success.

    No later batch begins.
    """
    fleet.policy = {**SOAK, "on_failure": "hold"}
    fleet.update("h1", later=[{}, {"lost": True}])
    assert fleet.run("rollout").failed == ["h1"]
    assert fleet.touched == ["h1"]
    assert fleet.states() == {"h1": "lost", **dict.fromkeys(EVERYONE[1:], "held")}


@pytest.mark.fault("oops-after-success")
def test_oops_after_success_has_the_batch_taken_back(fleet: Fleet) -> None:
    """A kernel oopses after it was patched well, and had oopsed before.

    The new oops alone counts, the batch is taken back, earlier and later batches are left alone.
    """
    fleet.policy = SOAK
    for name in EVERYONE:
        fleet.update(name, host=counted(fleet, name, 7))
    fleet.update("h3", faults={"patch": "oops-later"})
    run = fleet.run("rollout")
    assert run.failed == ["h3"]
    assert fleet.patched() == ["h1"]
    assert fleet.bare() == ["h2", "h3", "h4", "h5"]
    assert fleet.states() == {"h1": "applied", "h2": "absent", "h3": "absent", "h4": "held", "h5": "held"}
    assert "oopsed 1 time" in run.output


def test_all_is_taken_back_if_that_is_wanted(fleet: Fleet) -> None:
    fleet.policy = {"soak": 0, "on_failure": "all"}
    fleet.update("h4", faults={"patch": "taint"})
    assert fleet.run("rollout").failed == ["h4"]
    assert fleet.bare() == EVERYONE


@pytest.mark.fault("stalled-revert")
def test_what_can_not_be_taken_back_is_stuck_and_says_why(fleet: Fleet) -> None:
    """What a gate has failed can not be taken off.

    The host is stuck, the report says who holds it, nothing is forced.
    """
    fleet.policy = {"soak": 0}
    fleet.update("h1", faults={"patch": "taint-then-fail"})
    run = fleet.run("rollout")
    assert run.failed == ["h1"]
    assert fleet.states()["h1"] == "stuck"
    assert "task 42 (sleep) is in meminfo_proc_show" in run.output


def test_check_that_fails_look_after_look_fails_the_batch(fleet: Fleet) -> None:
    fleet.policy = {**SOAK, **CHECK}
    fleet.update("h2", checks={"service web": ["pass", "fail"]})
    assert fleet.run("rollout").failed == ["h2"]
    assert fleet.patched() == ["h1"]


@pytest.mark.fault("flapping-probe")
def test_blip_is_borne(fleet: Fleet) -> None:
    """A check fails at one look and passes at the next.

    The rollout goes on.
    """
    fleet.policy = {**SOAK, **CHECK}
    fleet.update("h2", checks={"service web": ["pass", "fail", "pass"]})
    assert fleet.run("rollout").status == 0


@pytest.mark.fault("unjudged-probe")
def test_check_that_can_not_be_made_holds_it_and_takes_nothing_back(fleet: Fleet) -> None:
    """A check can not be made.

    The rollout is held, and nothing is taken back.
    """
    fleet.policy = {**SOAK, **CHECK}
    fleet.update("h1", checks={"service web": ["pass", "inconclusive"]})
    run = fleet.run("rollout")
    assert run.status == 2
    assert (fleet.touched, fleet.patched()) == (["h1"], ["h1"])
    assert "service web can't be judged" in run.output


def test_host_whose_check_fails_before_is_not_touched(fleet: Fleet) -> None:
    fleet.policy = {"soak": 0, **CHECK}
    fleet.update("h1", checks={"service web": ["fail"]})
    run = fleet.run("rollout")
    assert (run.failed, fleet.touched, fleet.states()["h1"]) == (["h1"], [], "held")


def test_budget_bears_as_many_as_it_says_and_no_canary(fleet: Fleet) -> None:
    fleet.policy = {"soak": 0, "budget": 1, "on_failure": "hold"}
    fleet.update("h2", faults={"patch": "fail"})
    run = fleet.run("rollout")
    assert run.failed == ["h2"]
    assert fleet.patched() == ["h1", "h3", "h4", "h5"]
    fleet.run("rollback")
    fleet.update("h1", faults={"patch": "fail"})
    fleet.forget()
    fleet.run("rollout")
    assert fleet.touched == ["h1"]


def test_each_kernel_has_a_canary_and_domains_are_spread(fleet: Fleet) -> None:
    other_kernel(fleet, "h4", "h5")
    inventory = yaml.safe_load((fleet.directory / "inventory.yml").read_text())
    for number, name in enumerate(EVERYONE):
        inventory["all"]["hosts"][name] = {"rack": "ab"[number % 2]}
    (fleet.directory / "inventory.yml").write_text(yaml.safe_dump(inventory))
    fleet.policy = {"soak": 0, "domain": "rack", "max_down_per_domain": 1}
    assert fleet.run("rollout").status == 0
    assert plan(fleet)["batches"] == [["h1"], ["h4"], ["h2", "h3"], ["h5"]]
    assert {name: host["domain"] for name, host in plan(fleet)["hosts"].items()}["h2"] == "b"
    run = fleet.run("rollback", "-e", json.dumps({"kpatch_policy": {"domain": "room"}}))
    assert "there is no host variable 'room'" in run.output


@pytest.mark.fault("blackout")
def test_no_batch_begins_in_a_blackout(fleet: Fleet) -> None:
    """It is a blackout window.

    No batch begins, and the playbook fails.
    """
    now = datetime.now(timezone.utc)
    begin, end = (now + timedelta(minutes=minutes) for minutes in (-5, 60))
    fleet.policy = {"blackout": [f"{begin:%H:%M}-{end:%H:%M}"], "soak": 0}
    run = fleet.run("rollout")
    assert (fleet.touched, f"no batch may begin before {end:%a %H:%M} UTC" in run.output) == ([], True)
    assert run.status != 0


@pytest.mark.fault("two-rollouts")
def test_two_rollouts_at_once(fleet: Fleet) -> None:
    """A second rollout is started, and the first is killed.

    The second is refused and told who has the fleet; nobody waits for a dead owner.
    """
    fleet.update("h1", faults={"patch": "slow"})
    first = fleet.start("rollout")
    fleet.wait_for('"begin"')
    second = fleet.run("rollout")
    assert second.status != 0
    assert f"process {first.pid}" in second.output
    first.kill()
    first.communicate()
    fleet.update("h1", faults={})
    # Its owner is dead: nobody has to wait for the lease to expire.
    assert fleet.run("rollout").status == 0
    assert not (fleet.home / "lease.json").exists()


@pytest.mark.fault("job-slicing")
def test_slice_of_an_awx_job_is_refused(fleet: Fleet) -> None:
    """AWX runs the playbook as a slice of a job.

    It is refused before any host is touched.
    """
    extra = {"awx_workflow_job_name": "patch", "awx_job_template_name": "patch"}
    run = fleet.run("rollout", "-e", json.dumps(extra))
    assert (run.status, fleet.touched) == (2, [])
    assert "this is a slice of the job 'patch'" in run.output


def test_plan_is_frozen_looked_at_and_carried_out_later(fleet: Fleet) -> None:
    run = fleet.run("rollout", "-e", "kpatch_plan_only=true")
    assert (run.status, fleet.touched) == (0, [])
    frozen = plan(fleet)
    assert frozen["batches"] == [["h1"], ["h2", "h3"], ["h4", "h5"]]
    assert not (fleet.home / "lease.json").exists()
    assert fleet.run("rollout", "-e", f"kpatch_plan={frozen['id']}").status == 0
    assert (fleet.patched(), plan(fleet)) == (EVERYONE, frozen)


@pytest.mark.fault("killed-and-resumed")
def test_plan_is_taken_up_again_where_the_ledger_and_the_hosts_say(fleet: Fleet) -> None:
    """The controller is killed within a batch, and its plan taken up again.

    No host that has passed is touched twice, and all are patched.
    """
    fleet.update("h3", faults={"patch": "slow"})
    fleet.run_and_kill("rollout", '"host": "h3"')
    first = fleet.rollout()
    fleet.update("h3", faults={})
    fleet.forget()
    run = fleet.run("rollout", "-e", "kpatch_plan=newest")
    assert run.status == 0
    assert (fleet.rollout(), fleet.patched()) == (first, EVERYONE)
    assert "h1" not in fleet.touched
    assert "taking up the plan" in run.output


@pytest.mark.fault("reboot-while-applied")
def test_host_that_came_back_is_taken_up_with_the_plan(fleet: Fleet) -> None:
    """A host reboots while it is changed.

    It is lost, no later batch begins; taken up again it is patched, and hosts that are away are told.
    """
    fleet.update("h1", faults={"patch": "reboot"})
    assert fleet.run("rollout").failed == ["h1"]
    fleet.update("h1", faults={}, host={**fleet.read("h1")["host"], "patches": [], "core": None})
    run = fleet.run("rollout", "-e", f"kpatch_plan={fleet.rollout() / 'plan.json'}", "--limit", "all:!h5")
    assert fleet.patched() == ["h1", "h2", "h3", "h4"]
    assert "not among the hosts of this run: h5" in run.output


@pytest.mark.fault("connection-cut")
def test_connection_that_is_cut_while_the_host_goes_on_costs_nothing(fleet: Fleet) -> None:
    """The connection is cut while the host is changed.

    The host goes on, and its own word on the outcome is read.
    """
    fleet.update("h1", faults={"core": "cut"})
    assert fleet.run("rollout").status == 0
    assert (fleet.patched(), fleet.states()["h1"]) == (EVERYONE, "applied")


def test_retry_takes_the_failed_only(fleet: Fleet) -> None:
    fleet.policy = {"soak": 0, "budget": 2, "on_failure": "hold"}
    fleet.update("h2", faults={"patch": "fail"})
    fleet.run("rollout")
    fleet.update("h2", faults={})
    fleet.forget()
    assert fleet.run("rollout", "-e", "kpatch_retry=newest").status == 0
    assert (set(fleet.touched), list(plan(fleet)["hosts"])) == ({"h2"}, ["h2"])


@pytest.mark.fault("damaged-ledger")
@pytest.mark.parametrize("what", ["plan", "ledger"])
def test_damaged_plan_or_ledger_is_not_gone_on_with(fleet: Fleet, what: str) -> None:
    """Plan or ledger are torn.

    Nothing is touched.
    """
    fleet.update("h2", faults={"patch": "fail"})
    fleet.run("rollout")
    fleet.forget()
    path = next(Path(fleet.rollout()).glob(f"{what}.json*"))
    path.write_text(path.read_text()[:-20])
    run = fleet.run("rollout", "-e", "kpatch_plan=newest")
    assert run.status != 0
    assert fleet.touched == []


def test_deadline_of_the_policy_holds_for_the_change_and_for_the_way_back(fleet: Fleet) -> None:
    """If it did not, a switch would be turned back too early, or hold up its batch for longer than was allowed."""
    fleet.policy = {"soak": 0, "deadline": 7, "on_failure": "batch"}
    fleet.update("h1", faults={"patch": "taint"})
    fleet.run("rollout")
    assert fleet.read("h1")["deadlines"] == [7.0, 7.0]


def identities(fleet: Fleet, name: str) -> dict[str, str]:
    """The modules of ours that are on, with their builds."""
    host = fleet.read(name)["host"]
    return {one["module"]: one["srcversion"] for one in [host["core"], *host["patches"]] if one}


# That two has left the set is meant.
NEXT = ("-e", "kpatch_drop=two")


def next_set(fleet: Fleet) -> None:
    """After a rollout of the set: another build of the core module and of one, two has left the set, three is new."""
    assert fleet.run("rollout").status == 0
    fleet.forget()
    for name in ("kpatch", "one"):
        store(fleet.home / "store", RELEASE, name, srcversion="NEW", input_sha256="e" * 64)
    store(fleet.home / "store", RELEASE, "three")
    fleet.patches = ("one", "three")


@pytest.mark.fault("oops-after-upgrade")
def test_oops_after_an_upgrade_brings_the_former_set_back(fleet: Fleet) -> None:
    """A kernel oopses after its patch set was replaced by another one.

    The batch has exactly what it ran before, the core module and a patch that had left the set included.
    """
    next_set(fleet)
    before = {name: identities(fleet, name) for name in EVERYONE}
    fleet.policy = SOAK
    for name in EVERYONE:
        fleet.update(name, host=counted(fleet, name, 7))
    fleet.update("h3", faults={"patch": "oops-later"})
    run = fleet.run("rollout", *NEXT)
    assert run.failed == ["h3"]
    assert identities(fleet, "h1") == {"kpatch": "NEW", "kpatch_one": "NEW", "kpatch_three": "ABC"}
    assert {name: identities(fleet, name) for name in EVERYONE[1:]} == {name: before[name] for name in EVERYONE[1:]}
    assert fleet.states() == {"h1": "applied", "h2": "restored", "h3": "restored", "h4": "held", "h5": "held"}
    assert "h2: taken back to what ran before" in run.output
    assert fleet.run("status").failed == EVERYONE[1:]


@pytest.mark.parametrize(
    ("fault", "told"), [("again", "not-kept: it has been changed again"), ("fail", "busy: task 42")]
)
def test_former_set_that_can_not_be_put_back_is_told(fleet: Fleet, fault: str, told: str) -> None:
    next_set(fleet)
    fleet.policy = SOAK
    later = {"former": {"order": "another"}} if fault == "again" else {"faults": {"patch": "fail"}}
    kernel = {**fleet.read("h1")["host"]["kernel"], "taint": {"value": 128, "flags": "D"}}
    fleet.update("h1", later=[{}, {**later, "kernel": kernel}])
    run = fleet.run("rollout", *NEXT)
    assert (run.failed, fleet.states()["h1"]) == (["h1"], "stuck")
    reason = next(host["reason"] for host in fleet.report()["hosts"] if host["host"] == "h1")
    assert told in reason
    assert "kpatch_three is build cc, and was off" in reason
    assert identities(fleet, "h1") == {"kpatch": "NEW", "kpatch_one": "NEW", "kpatch_three": "ABC"}


def test_host_that_refused_the_new_set_whole_has_nothing_to_be_taken_back(fleet: Fleet) -> None:
    """It put back itself what ran before; the other one of its batch came to harm."""
    next_set(fleet)
    fleet.policy = {"soak": 0}
    fleet.update("h2", faults={"core": "fail"})
    fleet.update("h3", faults={"patch": "taint"})
    assert fleet.run("rollout", *NEXT).failed == ["h2", "h3"]
    assert (fleet.states()["h2"], fleet.states()["h3"]) == ("restored", "restored")
    trips = (fleet.hosts / "trips.log").read_text().splitlines()
    changes = [line.split()[0] for line in trips if line.endswith("patchset")]
    assert (changes.count("h2"), changes.count("h3")) == (2, 3)


def test_each_check_is_told_with_its_verdict_if_asked_for(fleet: Fleet) -> None:
    fleet.policy = {**SOAK, "looks": 1, "checks": [{"name": "shop", "url": "http://127.0.0.1/"}]}
    fleet.update("h2", checks={"shop": ["pass", "fail"]})
    told = [line for line in fleet.run("rollout", "-v").output.splitlines() if ": check " in line]
    assert [line for line in told if line.startswith("h1:")] == [
        "h1: check before: kernel: pass",
        "h1: check before: shop: pass (as simulated)",
        "h1: check after: kernel: pass",
        "h1: check after: shop: pass (as simulated)",
    ]
    assert "h2: check after: shop: fail (as simulated)" in told
    assert not [line for line in told if line.startswith("h4:")], "its batch is not begun"
    assert ": check " not in fleet.run("rollout").output
