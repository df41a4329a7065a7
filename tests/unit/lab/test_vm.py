# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""If these fail, somebody's files are removed, a dead VM is taken for a live one, or a live one is made anew."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils.lab import guest, process, vm
from ansible_collections.kpatch.fleet.plugins.module_utils.lab.base import LabError

GOLDEN = Path("/cache/states/6.1-x")


class Monitor:
    """Stands for QEMU's monitor, which here only knows one state."""

    state = "running"

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *_exception: object) -> None:
        pass

    def status(self) -> str:
        return self.state


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lab with the live VM web1."""
    web1 = tmp_path / "web1"
    web1.mkdir()
    (web1 / "disk.qcow2").touch()
    record = {"spec": vm.Spec("web1", GOLDEN, ["8021q"]).digest(), "port": 4242}
    (web1 / "vm.json").write_text(json.dumps(record))
    monkeypatch.setattr(process, "owned", lambda pid_file: 1 if pid_file == web1 / "pid" else None)
    monkeypatch.setattr(process, "terminate", lambda _pid_file: True)
    monkeypatch.setattr(vm, "Qmp", Monitor)
    return tmp_path


def test_a_live_vm_that_is_what_was_asked_for_is_kept(lab: Path) -> None:
    assert vm.ensure(lab, vm.Spec("web1", GOLDEN, ["8021q"])) == (4242, "")


@pytest.mark.parametrize(
    "spec", [vm.Spec("web1", GOLDEN, []), vm.Spec("web1", Path("/cache/states/6.12-x"), ["8021q"])]
)
def test_another_kernel_or_other_modules_ask_for_a_new_vm(lab: Path, spec: vm.Spec) -> None:
    assert vm.ensure(lab, spec, act=False) == (None, "asked for differently now")


def test_a_dead_vm_is_seen(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "owned", lambda _pid_file: None)
    assert vm.ensure(lab, vm.Spec("web1", GOLDEN, ["8021q"]), act=False) == (None, "not running")


def test_a_paused_vm_is_seen(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Monitor, "state", "paused")
    assert vm.ensure(lab, vm.Spec("web1", GOLDEN, ["8021q"]), act=False)[1] == "its state is 'paused'"


def test_a_half_made_vm_is_seen(lab: Path) -> None:
    (lab / "web1/vm.json").unlink()
    assert vm.ensure(lab, vm.Spec("web1", GOLDEN, ["8021q"]), act=False)[1] == "half made"


def test_check_mode_removes_nothing(lab: Path) -> None:
    assert vm.remove(lab, "web1", act=False)
    assert (lab / "web1/disk.qcow2").exists()


def test_the_last_vm_takes_the_lab_with_it(lab: Path) -> None:
    assert vm.remove(lab, "web1")
    assert not lab.exists()
    assert not vm.remove(lab, "web1")


def test_a_directory_that_is_no_vms_is_left_alone(lab: Path) -> None:
    (lab / "home").mkdir()
    (lab / "home/letter").touch()
    with pytest.raises(LabError, match="in the way"):
        vm.remove(lab, "home")
    with pytest.raises(LabError, match="in the way"):
        vm.ensure(lab, vm.Spec("home", GOLDEN, []))
    assert (lab / "home/letter").exists()


def test_a_vm_with_a_name_that_is_a_path_is_refused() -> None:
    with pytest.raises(LabError, match="the name of a VM"):
        vm.Spec("../home", GOLDEN, [])


def test_names_are_checked_before_anything_is_removed(lab: Path) -> None:
    with pytest.raises(LabError, match="the name of a VM"):
        vm.remove(lab / "web1", "..")
    assert (lab / "web1/disk.qcow2").exists()


@pytest.mark.parametrize("module", ["", "8021q; reboot", "../x", "-r", "a b"])
def test_a_module_name_that_is_more_than_a_name_is_refused(module: str) -> None:
    with pytest.raises(LabError, match="can't name a kernel module"):
        vm.Spec("web1", GOLDEN, [module])


def test_the_clock_is_set_before_anything_is_written() -> None:
    lines = guest.identity_script("web1", "0" * 32, ["8021q"]).splitlines()
    assert lines[0].startswith("date ")
    assert "hostname web1" in lines
    assert "modprobe 8021q" in lines


def test_ansible_trusts_only_the_labs_own_host_key() -> None:
    access = guest.Access(4242, Path("/with space/key"), Path("/with space/known_hosts"))
    variables = vm.connection_variables(access)
    words = shlex.split(variables["ansible_ssh_common_args"])
    assert variables["ansible_port"] == 4242
    assert variables["ansible_host"] == "127.0.0.1"
    assert words[:2] == ["-F", "none"]
    assert "StrictHostKeyChecking=yes" in words
    # ssh splits the option's value at blanks unless it is quoted.
    assert 'UserKnownHostsFile="/with space/known_hosts"' in words
    assert "ServerAliveInterval=5" in words
