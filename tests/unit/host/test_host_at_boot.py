# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""If this breaks, one damaged file on a host stops a fleet's rollout, or a host is unpatched after its next boot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils.host import boot, entry
from ansible_collections.kpatch.fleet.plugins.module_utils.host.errors import HostError
from ansible_collections.kpatch.fleet.plugins.module_utils.host.state import read_host
from fake_host import RELEASE

LIST = f"var/lib/kpatch.fleet/{RELEASE}/enabled.json"
DAMAGE = ["", '["kpatch", "kpa', "{}", "null", '["kpatch", 1]', "\0\0\0\0"]


def run(host: Any, state: str = "enabled", builds: tuple[str, str] = ("1", "2"), check: bool = False) -> dict[str, Any]:
    made = [host.artifact("kpatch", "core"), host.artifact("b", builds[0]), host.artifact("a", builds[1])]
    artifacts = [{"manifest": manifest, "src": str(src)} for manifest, src in made] if state == "enabled" else []
    given = {"names": ["b", "a"], "state": state, "core": True, "artifacts": artifacts, "timeout": 0.0}
    host.calls.clear()
    return entry.run("patchset", given, check, host.root)


@pytest.fixture
def patched(host: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A host with a set of two patches on."""
    monkeypatch.setattr(entry, "KernelLoader", lambda: host)
    assert run(host)["changed"]
    assert read_host(host.root)["at_boot"] == ["kpatch", "kpatch_b", "kpatch_a"]
    return host


@pytest.mark.parametrize("text", DAMAGE)
def test_damaged_list_is_told_and_the_host_is_not_touched(patched: Any, text: str) -> None:
    (patched.root / LIST).write_text(text)
    seen = read_host(patched.root)
    assert (seen["at_boot"], str(patched.root / LIST) in seen["damaged"]) == (None, True)
    assert "remove it and roll out again" in seen["damaged"]
    tree = patched.tree()
    for builds, check in ((("1", "2"), False), (("3", "4"), False), (("3", "4"), True)):
        done = run(patched, builds=builds, check=check)
        assert (done["failed"], done["reason"], patched.calls, patched.tree()) == (True, "damaged", [], tree)
        assert str(patched.root / LIST) in done["msg"]


def test_list_that_its_disk_does_not_give_is_damaged_too(patched: Any) -> None:
    (patched.root / LIST).unlink()
    (patched.root / LIST).mkdir()
    assert "can't read it" in read_host(patched.root)["damaged"]
    assert run(patched, builds=("3", "4"))["reason"] == "damaged"


def test_nothing_is_loaded_at_boot_by_a_damaged_list(patched: Any) -> None:
    (patched.root / LIST).write_text("{}")
    with pytest.raises(HostError, match=r"enabled\.json"):
        boot.put_on(patched.root, patched, 0)


def test_patches_go_all_the_same(patched: Any) -> None:
    """What can't be read keeps nobody from taking off what does harm; at a boot nothing comes back by it."""
    (patched.root / LIST).write_text("{}")
    assert (run(patched, "absent")["changed"], read_host(patched.root)["core"]) == (True, None)


def test_mend_that_the_message_names_is_one(patched: Any) -> None:
    """Once the file is removed, all is on already: the list is written anew, in the order of the set."""
    (patched.root / LIST).unlink()
    foreseen = run(patched, check=True)
    assert (foreseen["changed"], (patched.root / LIST).exists()) == (True, False)
    assert (run(patched)["changed"], patched.calls) == (True, [])
    assert json.loads((patched.root / LIST).read_text()) == ["kpatch", "kpatch_b", "kpatch_a"]
    assert not run(patched)["changed"]


def test_run_that_was_killed_before_it_was_kept_is_ended_by_the_next(patched: Any) -> None:
    (patched.root / LIST).write_text('["kpatch", "kpatch_b"]')
    assert (run(patched)["changed"], patched.calls) == (True, [])
    assert read_host(patched.root)["at_boot"] == ["kpatch", "kpatch_b", "kpatch_a"]


def test_host_that_was_never_patched_has_an_empty_list(host: Any, tmp_path: Path) -> None:
    seen = read_host(host.root)
    assert (seen["at_boot"], seen["damaged"]) == ([], None)
