# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of the store, of the controller's disk and clock, and of the inventory, against simulated hosts."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from ansible_collections.kpatch.fleet.plugins.module_utils import manifest as manifests
from ansible_collections.kpatch.fleet.plugins.module_utils.signature import ALLOWED, NAME, sign
from conftest import RELEASE, Fleet, Run

EVERYONE = ["h1", "h2", "h3", "h4", "h5"]


def place(fleet: Fleet, name: str) -> Path:
    return (fleet.home / "store" / RELEASE / name / "current").resolve()


def key(directory: Path, name: str) -> Path:
    path = directory / name
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path


@pytest.fixture
def signed(fleet: Fleet, tmp_path: Path) -> Fleet:
    """A fleet whose store names who may sign, and all of whose artifacts are signed so."""
    mine = key(tmp_path, "mine")
    line = Path(f"{mine}.pub").read_text()
    (fleet.home / "store" / ALLOWED).write_text(f'kpatch.fleet namespaces="kpatch.fleet" {line}')
    for name in ("kpatch", *fleet.patches):
        directory = place(fleet, name)
        (directory / NAME).write_text(sign(manifests.dump(manifests.load(directory / "manifest.json")), mine))
    return fleet


def refused(fleet: Fleet, what: str) -> Run:
    """A rollout that is refused before any host is touched, and that names what is wrong."""
    run = fleet.run("rollout")
    assert (run.status != 0, fleet.touched, fleet.bare()) == (True, [], EVERYONE)
    assert what in run.output
    return run


def test_what_is_signed_as_it_has_to_be_is_rolled_out(signed: Fleet) -> None:
    assert signed.run("rollout").status == 0
    assert signed.patched() == EVERYONE


@pytest.mark.fault("tampered-manifest")
def test_changed_manifest_is_refused(signed: Fleet) -> None:
    """A signed manifest in the store is changed.

    It is refused before any host is touched.
    """
    path = place(signed, "one") / "manifest.json"
    changed = json.loads(path.read_text())
    changed["functions"][0]["name"] = "another_function"
    path.write_text(manifests.dump(changed))
    refused(signed, "one/")


@pytest.mark.fault("tampered-signature")
@pytest.mark.parametrize("how", ["missing", "torn", "a stranger's"])
def test_changed_signature_is_refused(signed: Fleet, tmp_path: Path, how: str) -> None:
    """The signature of a manifest in the store is away, torn, or made with a key that nobody allows.

    It is refused before any host is touched.
    """
    directory = place(signed, "one")
    path, text = directory / NAME, manifests.dump(manifests.load(directory / "manifest.json"))
    if how == "missing":
        path.unlink()
    else:
        path.write_text(path.read_text()[:-90] if how == "torn" else sign(text, key(tmp_path, "stranger")))
    refused(signed, "is not signed" if how == "missing" else "its signature is not one of")


@pytest.fixture
def small(fleet: Fleet) -> Iterator[Path]:
    """A small file system for the rollouts' plans and ledgers; needs root."""
    directory = fleet.home / "rollouts"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k,mode=700", "none", directory], check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", directory], check=True)


def fill(directory: Path) -> Path:
    """Leave no byte free there, the last page of the ledger included: readers pass over empty lines."""
    for ledger in directory.glob("*/ledger.jsonl"):
        with ledger.open("ab") as stream:
            stream.write(b"\n" * (-ledger.stat().st_size % 4096))
    ballast = directory / "ballast"
    subprocess.run(["dd", "if=/dev/zero", f"of={ballast}", "bs=4k"], check=False, capture_output=True)
    return ballast


@pytest.mark.fault("ledger-disk-full")
def test_disk_of_the_ledger_that_fills_up(fleet: Fleet, small: Path) -> None:
    """The disk of the ledger fills up within a batch.

    No later batch begins, the message names the ledger; with room again the plan goes on, no host twice.
    """
    fleet.update("h3", faults={"patch": "slow"})
    process = fleet.start("rollout")
    fleet.wait_for('"host": "h3"')
    fleet.wait_for('"host": "h2"')
    time.sleep(8)
    ballast = fill(small)
    output, _nothing = process.communicate(timeout=fleet.time_limit)
    print(output)
    assert process.returncode != 0
    assert "the ledger can't be written: No space left on device" in output
    assert not {"h4", "h5"} & set(fleet.touched)
    ballast.unlink()
    fleet.update("h3", faults={})
    done = [name for name in ("h1", "h2") if name in fleet.patched()]
    fleet.forget()
    assert fleet.run("rollout").status == 0
    assert (fleet.patched(), [name for name in done if name in fleet.touched]) == (EVERYONE, [])


@pytest.mark.fault("plan-disk-full")
def test_disk_that_is_full_when_the_plan_is_made(fleet: Fleet, small: Path) -> None:
    """The disk is full when the plan is to be written.

    No host is touched, and the message says which disk.
    """
    fill(small)
    refused(fleet, "No space left on device")


@pytest.mark.fault("clock-jumps")
@pytest.mark.parametrize("days", [2, -2])
def test_clock_of_the_controller_jumps(fleet: Fleet, days: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The controller's clock jumps two days ahead, or back, within a batch.

    The rollout goes on in its order, keeps the fleet to itself meanwhile, and a second run changes nothing.
    """
    clock = fleet.directory / "clock"
    clock.write_text("0")
    monkeypatch.setenv("CLOCK_JUMP", str(clock))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent / "clock"), prepend=os.pathsep)
    fleet.update("h3", faults={"patch": "slowly"})
    first = fleet.start("rollout")
    fleet.wait_for('"host": "h3"')
    clock.write_text(str(days * 86400))
    second = fleet.run("rollout")
    output, _nothing = first.communicate(timeout=fleet.time_limit)
    print(output)
    assert second.status != 0
    assert "another rollout is under way" in second.output
    assert first.returncode == 0
    assert fleet.patched() == EVERYONE
    times = {entry["time"][:10] for entry in fleet.ledger("host")}
    assert len(times) == 2, "the clock did not jump"
    fleet.forget()
    assert (fleet.run("rollout").status, fleet.touched) == (0, [])


@pytest.mark.fault("hosts-come-and-go")
def test_hosts_that_appear_and_vanish_under_a_plan(fleet: Fleet) -> None:
    """After a stop one host has left the inventory and another is in it, and the plan is taken up again.

    Both are told; the one that has come is not touched, and the rest of the plan is done.
    """
    fleet.update("h2", faults={"patch": "fail"})
    assert fleet.run("rollout").status != 0
    fleet.update("h2", faults={})
    fleet.write("h6", fleet.read("h1"))
    fleet.update("h6", host={**fleet.read("h6")["host"], "patches": [], "core": None})
    path = fleet.directory / "inventory.yml"
    inventory = yaml.safe_load(path.read_text())
    del inventory["all"]["hosts"]["h5"]
    inventory["all"]["hosts"]["h6"] = None
    path.write_text(yaml.safe_dump(inventory))
    fleet.forget()
    run = fleet.run("rollout", "-e", "kpatch_plan=newest")
    assert sorted(fleet.touched) == ["h2", "h4"]
    assert fleet.patched() == ["h1", "h2", "h3", "h4"]
    assert "not among the hosts of this run: h5" in run.output
    assert "h6" in run.output.partition("PLAY [Rollout, batch by batch]")[0]
    assert fleet.read("h6")["host"]["patches"] == []
