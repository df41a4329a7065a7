# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""If this breaks, hosts are contacted without need, get what is not theirs, or get what was tampered with."""

from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import example_artifact
import pytest
from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible_collections.kpatch.fleet.plugins.action import core, patch, patchset
from ansible_collections.kpatch.fleet.plugins.module_utils.host.state import read_host
from fake_host import RELEASE, elf


class Driver:
    """An action plugin whose connection leads to a fake host; *calls* are its round trips."""

    def __init__(self, host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.host = host
        self.monkeypatch = monkeypatch
        self.calls: list[str] = []
        self.sent: dict[str, Any] = {}
        self.store = host.root / "store"

    def build(self, name: str, build: str = "1", **changes: Any) -> Path:
        """Put an artifact into the store; its .ko there."""
        manifest, src = self.host.artifact(name, build, **changes)
        return example_artifact.put(self.store, manifest, src.read_bytes())

    def run(self, plugin: Any = patch, check: bool = False, **arguments: Any) -> dict[str, Any]:
        task = MagicMock(args=arguments, check_mode=check, async_val=0, diff=False)
        connection = MagicMock(_shell=SimpleNamespace(tmpdir="/remote/tmp", join_path=lambda *parts: "/".join(parts)))
        action = plugin.ActionModule(task, connection, MagicMock(), MagicMock(), MagicMock(), MagicMock())
        self.calls = []
        for method, stub in [
            ("_execute_module", self._execute),
            ("_transfer_file", self.put),
            ("_fixup_perms2", lambda paths, execute: None),
            ("_remove_tmp_path", lambda path: None),
        ]:
            self.monkeypatch.setattr(action, method, stub)
        return dict(action.run(task_vars={}))

    def put(self, source: str, target: str) -> None:
        self.calls.append(f"put {target}")

    def look(self) -> dict[str, Any]:
        return read_host(self.host.root)

    def _execute(self, module_name: str, module_args: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        self.calls.append(module_name)
        self.sent = module_args
        return {"host": self.look()} if module_name.endswith("host_info") else {"changed": True}


@pytest.fixture
def driver(ready: Any, monkeypatch: pytest.MonkeyPatch) -> Driver:
    return Driver(ready, monkeypatch)


def test_one_trip_to_look_one_to_ship_and_act(driver: Driver) -> None:
    driver.build("a")
    assert driver.run(name="a", store=str(driver.store))["changed"]
    module = "kpatch.fleet.patch"
    assert driver.calls == ["kpatch.fleet.host_info", "put /remote/tmp/kpatch_a.ko", module]
    (artifact,) = driver.sent["artifacts"]
    assert (artifact["src"], artifact["manifest"]["name"]) == ("/remote/tmp/kpatch_a.ko", "a")
    assert (driver.sent["name"], driver.sent["state"], driver.sent["timeout"]) == ("a", "enabled", 30.0)
    assert not {"store", "host"} & set(driver.sent)


def test_a_look_that_came_along_saves_one(driver: Driver) -> None:
    driver.build("a")
    driver.run(name="a", store=str(driver.store), host=driver.look())
    assert driver.calls == ["put /remote/tmp/kpatch_a.ko", "kpatch.fleet.patch"]


def test_check_mode_ships_nothing(driver: Driver) -> None:
    driver.build("a")
    driver.run(name="a", store=str(driver.store), host=driver.look(), check=True)
    assert driver.calls == ["kpatch.fleet.patch"]
    assert driver.sent["artifacts"][0]["src"] is None


def test_nothing_to_do_needs_no_trip(driver: Driver) -> None:
    driver.build("kpatch", "core")
    done = driver.run(core, store=str(driver.store), host=driver.look())
    assert (done["changed"], done["after"]["state"], driver.calls) == (False, "loaded", [])
    gone = driver.run(name="a", state="absent", host=driver.look())
    assert (gone["changed"], gone["after"]["state"], driver.calls) == (False, "absent", [])


def test_another_build_is_not_nothing_to_do(driver: Driver) -> None:
    driver.build("kpatch", "newer")
    driver.run(core, store=str(driver.store), host=driver.look())
    assert driver.calls == ["put /remote/tmp/kpatch.ko", "kpatch.fleet.core"]


def test_enabling_again_ships_nothing(driver: Driver) -> None:
    path = driver.build("a")
    manifest = json.loads((path.parent / "manifest.json").read_text())
    driver.host.transition("kpatch_a", "enabled", manifest, path).reach()
    driver.host.transition("kpatch_a", "disabled").reach()
    driver.run(name="a", store=str(driver.store), host=driver.look())
    assert driver.calls == ["kpatch.fleet.patch"]


def test_a_host_whose_kernel_no_artifact_matches_is_not_touched(driver: Driver) -> None:
    done = driver.run(name="a", store=str(driver.store), host=driver.look())
    assert (done["failed"], done["changed"], done["reason"]) == (True, False, "needs-build")
    assert done["before"] == done["after"]
    assert RELEASE in done["msg"]
    assert driver.calls == []


def test_one_changed_byte_in_the_store(driver: Driver) -> None:
    path = driver.build("a")
    path.write_bytes(path.read_bytes().replace(b"name=x", b"name=y"))
    done = driver.run(name="a", store=str(driver.store), host=driver.look())
    assert (done["failed"], done["reason"], driver.calls) == (True, "tampered", [])


def test_a_manifest_of_another_patch(driver: Driver) -> None:
    driver.build("a")
    (driver.store / RELEASE / "b").symlink_to("a")
    assert driver.run(name="b", store=str(driver.store), host=driver.look())["reason"] == "bad-manifest"


def test_what_can_be_known_is_refused_before_the_transfer(driver: Driver) -> None:
    driver.build("a", image=elf("6.1.0-1 SMP "))
    assert driver.run(name="a", store=str(driver.store), host=driver.look())["reason"] == "wrong-vermagic"
    look = copy.deepcopy(driver.look())
    look["kernel"]["build_id"] = "cd"
    assert driver.run(name="a", store=str(driver.store), host=look)["reason"] == "wrong-kernel"
    assert driver.calls == []


@pytest.mark.parametrize(
    "arguments",
    [
        {"name": "../etc", "state": "absent"},
        {"name": "a b", "state": "absent"},
        {"name": "a;reboot", "state": "absent"},
        {"name": "kpatch", "state": "absent"},
        {"name": "a", "state": "gone"},
        {"name": "a", "nmae": "a"},
        {"state": "absent"},
        {"name": "a"},
        {"name": "a", "host": {}, "store": "/store"},
        {
            "name": "a",
            "store": "/s",
            "host": {"kernel": {"release": "../x"}, "core": None, "patches": [], "livepatches": [], "staged": []},
        },
    ],
)
def test_bad_arguments_reach_no_host(driver: Driver, arguments: dict[str, Any]) -> None:
    done = driver.run(**arguments)
    assert (done["failed"], done["reason"], driver.calls) == (True, "bad-arguments", [])


def test_a_stale_look_does_not_refuse_what_the_host_would_do(driver: Driver) -> None:
    """The rollback removes the patches and then the core module, with the look that it took before."""
    look = driver.look()
    look["patches"] = [{"module": "kpatch_a"}]
    driver.run(core, state="absent", host=look)
    assert driver.calls == ["kpatch.fleet.core"]


def test_a_transfer_that_fails_and_a_host_that_is_lost(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    driver.build("a")
    monkeypatch.setattr(driver, "put", MagicMock(side_effect=AnsibleError("disk full")))
    done = driver.run(name="a", store=str(driver.store), host=driver.look())
    assert (done["failed"], done["reason"]) == (True, "transfer-failed")
    assert "disk full" in done["msg"]
    # Ansible itself makes 'unreachable' of this one.
    monkeypatch.setattr(driver, "put", MagicMock(side_effect=AnsibleConnectionFailure("gone")))
    with pytest.raises(AnsibleConnectionFailure):
        driver.run(name="a", store=str(driver.store), host=driver.look())


class TestPatchset:
    """Two patches and the core module, on a host that has the core module already."""

    MODULE = "kpatch.fleet.patchset"

    @pytest.fixture(autouse=True)
    def built(self, driver: Driver) -> None:
        self.files = {name: driver.build(name, build) for name, build in [("kpatch", "core"), ("a", "1"), ("b", "2")]}

    def run(self, driver: Driver, **arguments: Any) -> dict[str, Any]:
        given = {"names": ["a", "b"], "store": str(driver.store), "host": driver.look(), **arguments}
        return driver.run(patchset, **{key: value for key, value in given.items() if value is not None})

    def enable(self, driver: Driver, name: str) -> None:
        path = self.files[name]
        manifest = json.loads((path.parent / "manifest.json").read_text())
        driver.host.transition(f"kpatch_{name}", "enabled", manifest, path).reach()

    def test_only_what_is_needed_is_shipped_and_all_of_it_before_the_one_run(self, driver: Driver) -> None:
        assert self.run(driver)["changed"]
        assert driver.calls == ["put /remote/tmp/kpatch_a.ko", "put /remote/tmp/kpatch_b.ko", self.MODULE]
        assert [(one["manifest"]["name"], one["src"]) for one in driver.sent["artifacts"]] == [
            ("kpatch", None),
            ("a", "/remote/tmp/kpatch_a.ko"),
            ("b", "/remote/tmp/kpatch_b.ko"),
        ]
        assert (driver.sent["names"], driver.sent["state"], driver.sent["core"]) == (["a", "b"], "enabled", True)
        self.enable(driver, "a")
        self.run(driver)
        assert driver.calls == ["put /remote/tmp/kpatch_b.ko", self.MODULE]

    def test_patch_that_has_to_come_on_again_is_shipped_along(self, driver: Driver) -> None:
        """Both replace meminfo_proc_show, and b belongs above."""
        self.enable(driver, "a")
        self.enable(driver, "b")
        driver.build("a", "3")
        assert self.run(driver)["changed"]
        assert driver.calls == ["put /remote/tmp/kpatch_a.ko", "put /remote/tmp/kpatch_b.ko", self.MODULE]

    def test_patch_that_would_cover_one_that_is_not_named_is_not_shipped(self, driver: Driver) -> None:
        self.enable(driver, "a")
        self.enable(driver, "b")
        driver.build("a", "3")
        assert (self.run(driver, names=["a"])["reason"], driver.calls) == ("foreign-patch", [])

    def test_on_a_bare_host_the_core_module_goes_along(self, driver: Driver) -> None:
        driver.host.transition("kpatch", "absent").reach()
        for check, count in [(False, 3), (True, 0)]:
            assert self.run(driver, check=check)["changed"]
            assert len(driver.calls) == count + 1

    def test_patches_for_livepatch_alone_go_without_the_core_module(self, driver: Driver) -> None:
        (driver.host.root / "sys/kernel/livepatch").mkdir()
        driver.host.transition("kpatch", "absent").reach()
        (driver.store / RELEASE / "kpatch/current").unlink()
        for name, build in [("a", "3"), ("b", "4")]:
            driver.build(name, build, backend="livepatch")
        assert self.run(driver)["changed"]
        assert driver.calls == ["put /remote/tmp/kpatch_a.ko", "put /remote/tmp/kpatch_b.ko", self.MODULE]
        assert [one["manifest"]["name"] for one in driver.sent["artifacts"]] == ["a", "b"]
        assert driver.sent["core"] is False
        driver.build("b", "5")
        assert self.run(driver)["reason"] == "needs-build"

    def test_nothing_to_do_needs_no_trip(self, driver: Driver) -> None:
        self.enable(driver, "a")
        self.enable(driver, "b")
        done = self.run(driver)
        assert (done["changed"], len(done["results"]), driver.calls) == (False, 3, [])
        assert done["host"] == driver.look()
        assert done["before"] == done["after"]
        gone = self.run(driver, names=["c"], state="absent", core=False)
        assert (gone["changed"], driver.calls) == (False, [])

    def test_without_a_look_it_looks_itself(self, driver: Driver) -> None:
        self.run(driver, host=None)
        assert (driver.calls[0], driver.calls[-1]) == ("kpatch.fleet.host_info", self.MODULE)
        self.run(driver, host=None, state="absent")
        assert driver.calls == [self.MODULE]

    def test_check_mode_ships_nothing(self, driver: Driver) -> None:
        self.run(driver, check=True)
        assert driver.calls == [self.MODULE]

    def test_absent_patches_do_not_hold_the_core_module(self, driver: Driver) -> None:
        self.enable(driver, "a")
        self.run(driver, state="absent")
        assert (driver.calls, driver.sent["artifacts"]) == ([self.MODULE], [])

    @pytest.mark.parametrize("spoilt", ["kpatch", "b"])
    def test_one_tampered_artifact_keeps_all_of_them_off_the_host(self, driver: Driver, spoilt: str) -> None:
        path = self.files[spoilt]
        path.write_bytes(path.read_bytes().replace(b"name=x", b"name=y"))
        done = self.run(driver)
        assert (done["failed"], done["changed"], done["reason"]) == (True, False, "tampered")
        assert driver.calls == []
        assert "kpatch_a is absent (not tried)" in done["msg"]

    def test_what_took_the_place_of_what_was_planned_with_is_not_shipped(self, driver: Driver) -> None:
        """Artifact and manifest were exchanged together, between the gate and the host."""
        digests = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in self.files.items()}
        assert self.run(driver, planned=digests)["changed"]
        assert "planned" not in driver.sent
        driver.build("b", "9")
        done = self.run(driver, planned=digests)
        assert (done["failed"], done["reason"], driver.calls) == (True, "tampered", [])
        assert "than the plan was made with" in done["msg"]
        del digests["b"]
        assert self.run(driver, planned=digests)["reason"] == "tampered"

    def test_what_does_not_fit_is_refused_before_anything_is_shipped(self, driver: Driver) -> None:
        assert self.run(driver, names=["a", "c"])["reason"] == "needs-build"
        driver.build("d", "4", image=elf("6.1.0-1 SMP "))
        assert self.run(driver, names=["a", "d"])["reason"] == "wrong-vermagic"
        driver.build("e", "5", abi=2)
        assert self.run(driver, names=["a", "e"])["reason"] == "core-mismatch"
        assert driver.calls == []

    @pytest.mark.parametrize("names", [[], ["a", "a"], ["a", "kpatch"], ["a", "../b"]])
    def test_bad_names_reach_no_host(self, driver: Driver, names: list[str]) -> None:
        for state in ("enabled", "absent"):
            done = self.run(driver, names=names, state=state)
            assert (done["failed"], done["reason"], driver.calls) == (True, "bad-arguments", [])
