# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""If this breaks, an old artifact with a valid signature brings back the hole that a newer one has closed."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils import signature
from ansible_collections.kpatch.fleet.plugins.module_utils.host import boot, entry
from ansible_collections.kpatch.fleet.plugins.module_utils.manifest import dump
from fake_host import FakeHost, remove

OLD, NEW = 1_700_000_000, 1_800_000_000
FILE = "var/lib/kpatch.fleet/newest.json"


@pytest.fixture
def load(host: FakeHost, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Loads the core module, then one patch of a build and time, signed by a key that the host allows."""
    monkeypatch.setattr(entry, "KernelLoader", lambda: host)
    key = tmp_path_factory.mktemp("key") / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    policy = host.root / "etc/kpatch.fleet/allowed_signers"
    policy.parent.mkdir(parents=True)
    policy.write_text(f"kpatch.fleet {Path(f'{key}.pub').read_text()}")

    def run(build: str, serial: int | None, state: str = "enabled", **more: Any) -> dict[str, Any]:
        host.calls.clear()
        dated = {} if serial is None else {"serial": serial}
        made = [host.artifact("kpatch", "core"), host.artifact("a", build, None, **dated)]
        artifacts = [
            {"manifest": one, "src": str(src), "signature": signature.sign(dump(one), key)} for one, src in made
        ]
        given = {"names": ["a"], "state": state, "core": True, "artifacts": artifacts, "timeout": 0.0, **more}
        return entry.run("patchset", given, False, host.root)

    return run


@pytest.mark.parametrize("old", [OLD, None])
def test_old_artifact_with_a_valid_signature_is_refused(host: FakeHost, load: Any, old: int | None) -> None:
    assert not load("2", NEW).get("failed")
    tree = host.tree()
    done = load("1", old)
    assert (done["reason"], host.calls) == ("older", [])
    assert "2027-01-15 08:00:00 UTC" in done["msg"]
    assert host.tree() == tree


def test_taking_off_does_not_make_it_forget(host: FakeHost, load: Any) -> None:
    load("2", NEW)
    load("2", NEW, "absent")
    assert load("1", OLD)["reason"] == "older"
    assert not load("2", NEW).get("failed")


def test_downgrade_only_when_asked_and_once(host: FakeHost, load: Any) -> None:
    load("2", NEW)
    assert not load("1", OLD, downgrade=True).get("failed")
    assert not load("1", OLD).get("failed")  # it runs: nothing is loaded
    load("1", OLD, "absent")
    assert load("1", OLD)["reason"] == "older"


def test_downgrade_comes_back_at_boot(host: FakeHost, load: Any) -> None:
    load("2", NEW)
    load("1", OLD, downgrade=True)
    remove(host.root / "sys/kernel/kpatch")
    remove(host.root / "sys/module/kpatch_a")
    remove(host.root / "sys/module/kpatch")
    host.calls.clear()
    boot.put_on(host.root, host, 0)
    assert host.calls[-1] == "load kpatch_a SRC1"


def test_newer_build_that_was_refused_shuts_nothing_out(host: FakeHost, load: Any) -> None:
    load("1", OLD)
    host.refuse["load", "SRC2"] = [22]
    assert load("2", NEW)["failed"]
    load("1", OLD, "absent")
    assert not load("1", OLD).get("failed")


def test_another_kernel_has_a_time_of_its_own(host: FakeHost, load: Any) -> None:
    load("2", NEW)
    kept = host.root / FILE
    kept.write_text(kept.read_text().replace("6.1.0", "6.1.1"))
    load("2", NEW, "absent")
    kept.write_text(kept.read_text().replace("6.1.0", "6.1.1"))
    assert not load("1", OLD).get("failed")


def test_what_is_remembered_is_roots_alone(host: FakeHost, load: Any) -> None:
    load("2", NEW)
    assert stat.S_IMODE((host.root / FILE).stat().st_mode) == 0o600


@pytest.mark.parametrize("text", ["", "[]", '{"a": "b"}', '{"a'])
def test_memory_that_is_damaged_is_no_empty_one(host: FakeHost, load: Any, text: str) -> None:
    load("2", NEW)
    (host.root / FILE).write_text(text)
    done = load("1", OLD)
    assert (done["reason"], host.calls) == ("bad-manifest", [])
    assert FILE in done["msg"]
