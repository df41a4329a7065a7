# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""If this breaks, a host crashes at every boot, or is unpatched after one though it says otherwise."""

from __future__ import annotations

import errno
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils.host import boot, entry
from ansible_collections.kpatch.fleet.plugins.module_utils.host.errors import HostError
from ansible_collections.kpatch.fleet.plugins.module_utils.host.program import program
from fake_host import RELEASE, remove

STAGED = f"var/lib/kpatch.fleet/{RELEASE}"
GUARD = "var/lib/kpatch.fleet/boot.json"


@pytest.fixture
def rebooted(ready: Any) -> Any:
    """A host that had the core module and two patches on, after a reboot."""
    for name in ("b", "a"):
        ready.transition(f"kpatch_{name}", "enabled", *ready.artifact(name, name)).reach()
    return reboot(ready)


def reboot(host: Any) -> Any:
    for path in ("sys/kernel/kpatch", "sys/module"):
        if (host.root / path).exists():
            remove(host.root / path)
    (host.root / "sys/module").mkdir()
    host.calls.clear()
    return host


def loads(host: Any) -> list[str]:
    return [call for call in host.calls if call.startswith("load")]


def test_all_comes_back_in_order_and_nothing_is_left_counted(rebooted: Any) -> None:
    said = boot.put_on(rebooted.root, rebooted, 0)
    assert loads(rebooted) == ["load kpatch SRCcore", "load kpatch_b SRCb", "load kpatch_a SRCa"]
    assert said.endswith("on again are kpatch, kpatch_b, kpatch_a")
    assert not (rebooted.root / GUARD).exists()
    rebooted.calls.clear()
    boot.put_on(rebooted.root, rebooted, 0)
    assert loads(rebooted) == []


def test_what_was_taken_off_stays_off(ready: Any) -> None:
    ready.transition("kpatch_a", "enabled", *ready.artifact("a")).reach()
    ready.transition("kpatch_a", "absent").reach()
    ready.transition("kpatch", "absent").reach()
    assert boot.put_on(reboot(ready).root, ready, 0).endswith("there is nothing to put on")


def test_switch_on_the_kernels_command_line(rebooted: Any) -> None:
    (rebooted.root / "proc/cmdline").write_text("quiet kpatch.fleet=off\n")
    boot.put_on(rebooted.root, rebooted, 0)
    assert rebooted.calls == []


def test_another_kernel_gets_nothing_and_is_told(rebooted: Any) -> None:
    (rebooted.root / "proc/sys/kernel/osrelease").write_text("6.9-other\n")
    assert "needs a build" in boot.put_on(rebooted.root, rebooted, 0)
    assert rebooted.calls == []


def test_same_release_built_again_gets_nothing(rebooted: Any) -> None:
    (rebooted.root / "sys/kernel/notes").write_bytes(b"")
    with pytest.raises(HostError, match="build it for this kernel"):
        boot.put_on(rebooted.root, rebooted, 0)
    assert rebooted.calls == []


def test_artifact_that_was_changed_is_not_loaded(rebooted: Any) -> None:
    path = rebooted.root / STAGED / "kpatch_b.ko"
    path.write_bytes(b"X" + path.read_bytes()[1:])
    with pytest.raises(HostError) as caught:
        boot.put_on(rebooted.root, rebooted, 0)
    assert (caught.value.reason, loads(rebooted)) == ("tampered", ["load kpatch SRCcore"])


@pytest.mark.parametrize("place", ["var/lib/kpatch.fleet", STAGED])
def test_directory_that_others_can_write_to_is_not_loaded_from(rebooted: Any, place: str) -> None:
    (rebooted.root / place).chmod(0o777)
    with pytest.raises(HostError) as caught:
        boot.put_on(rebooted.root, rebooted, 0)
    assert (caught.value.reason, loads(rebooted)) == ("not-permitted", [])


class PanicError(BaseException):
    """The machine goes down: no code of ours runs after it."""


def test_three_boots_that_ended_in_it_end_it(rebooted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(_handle: int, _parameters: str) -> None:
        monkeypatch.setattr(boot, "_count", lambda *_arguments: None)
        raise PanicError

    load = rebooted.load
    count = boot._count
    for _boot in range(3):
        rebooted.load = down
        with pytest.raises(PanicError):
            boot.put_on(reboot(rebooted).root, rebooted, 0)
        monkeypatch.setattr(boot, "_count", count)
    rebooted.load = load
    with pytest.raises(HostError, match="the last 3 boots did not live through it"):
        boot.put_on(reboot(rebooted).root, rebooted, 0)
    assert rebooted.calls == []
    # A kernel that is not this one has a count of its own.
    (rebooted.root / GUARD).write_text('{"release": "other", "attempts": 3}')
    boot.put_on(rebooted.root, rebooted, 0)
    assert len(loads(rebooted)) == 3


def test_refusal_is_no_crash(rebooted: Any) -> None:
    rebooted.refuse["load", "SRCb"] = [errno.EINVAL]
    with pytest.raises(HostError):
        boot.put_on(rebooted.root, rebooted, 0)
    assert not (rebooted.root / GUARD).exists()


def test_torn_count_leaves_one_more_try(rebooted: Any) -> None:
    (rebooted.root / GUARD).write_text("{")
    boot.put_on(rebooted.root, rebooted, 0)
    assert len(loads(rebooted)) == 3


def test_program_holds_all_that_it_needs(tmp_path: Path) -> None:
    path = tmp_path / "boot"
    path.write_bytes(program("boot"))
    names = zipfile.ZipFile(path).namelist()
    assert any(name.endswith("host/transition.py") for name in names)
    module = "ansible_collections.kpatch.fleet.plugins.module_utils.host.boot"
    script = f"import sys; sys.path.insert(0, sys.argv[1]); import {module} as boot; print(boot.MOST_ATTEMPTS)"
    done = subprocess.run(
        ["/usr/bin/python3", "-I", "-c", script, str(path)], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("3\n", "")


def test_a_rollout_makes_the_count_begin_anew(host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry, "KernelLoader", lambda: host)
    manifest, src = host.artifact("kpatch", "core")
    (host.root / GUARD).parent.mkdir(parents=True, mode=0o700)
    (host.root / GUARD).write_text('{"attempts": 3}')
    params = {"state": "loaded", "artifacts": [{"manifest": manifest, "src": str(src)}], "timeout": 0.0}
    entry.run("core", params, True, host.root)
    assert (host.root / GUARD).exists()
    entry.run("core", params, False, host.root)
    assert not (host.root / GUARD).exists()
