# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""If this breaks, playbooks read wrong results, or the documentation promises other ones."""

from __future__ import annotations

import errno
from typing import Any

import pytest
import yaml
from ansible_collections.kpatch.fleet.plugins.module_utils.host import entry, parts
from ansible_collections.kpatch.fleet.plugins.module_utils.host.errors import REASONS
from ansible_collections.kpatch.fleet.plugins.modules import core, patch, patchset


def run(host: Any, monkeypatch: pytest.MonkeyPatch, check_mode: bool = False, **params: Any) -> dict[str, Any]:
    monkeypatch.setattr(entry, "KernelLoader", lambda: host)
    given = {"name": "a", "state": "enabled", "artifacts": [], "timeout": 0.0, **params}
    return entry.run("patch", given, check_mode, host.root)


def artifact(host: Any, *arguments: str) -> dict[str, Any]:
    manifest, src = host.artifact("a", *arguments)
    return {"artifacts": [{"manifest": manifest, "src": str(src)}]}


def test_before_and_after(ready: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run(ready, monkeypatch, **artifact(ready))
    assert done["changed"]
    assert (done["before"]["state"], done["after"]["state"]) == ("absent", "enabled")
    assert done["diff"] == {"before": done["before"], "after": done["after"]}
    assert done["msg"] == "kpatch_a: absent -> enabled"
    again = run(ready, monkeypatch, **artifact(ready))
    assert (again["changed"], again["before"]) == (False, again["after"])


def test_a_replaced_build_is_said(ready: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run(ready, monkeypatch, **artifact(ready, "1"))
    done = run(ready, monkeypatch, **artifact(ready, "2"), check_mode=True)
    assert done["diff"]["before"]["identity"] == "different"
    assert "another build replaced" in done["msg"]


def test_a_failure_says_what_the_host_is_in(ready: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ready.refuse["load", "SRC1"] = [errno.EINVAL]
    done = run(ready, monkeypatch, **artifact(ready))
    assert (done["failed"], done["changed"], done["reason"]) == (True, False, "load-failed")
    assert done["msg"].endswith("On the host now: kpatch_a is absent.")


def test_a_failure_half_way_down_is_a_change(ready: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run(ready, monkeypatch, **artifact(ready))
    ready.refuse["unload", "kpatch_a"] = [errno.EAGAIN]
    done = run(ready, monkeypatch, state="absent")
    assert (done["failed"], done["changed"], done["reason"]) == (True, True, "busy")
    assert done["after"]["state"] == "disabled"


def test_a_manifest_that_is_none(ready: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(ready, monkeypatch, artifacts=[{"manifest": {"format": 1}, "src": None}])["reason"] == "bad-manifest"
    assert run(ready, monkeypatch)["reason"] == "bad-arguments"
    not_shipped = [{"manifest": ready.artifact("a")[0], "src": None}]
    assert run(ready, monkeypatch, artifacts=not_shipped)["reason"] == "transfer-failed"


@pytest.mark.parametrize(("kind", "module"), [("core", core), ("patch", patch), ("patchset", patchset)])
def test_documentation(kind: str, module: Any) -> None:
    returned = yaml.safe_load(module.RETURN)
    assert tuple(returned["reason"].get("choices", REASONS)) == REASONS
    states = yaml.safe_load(module.DOCUMENTATION)["options"]["state"]
    assert tuple(states["choices"]) == parts.STATES[kind]
    assert states["default"] == parts.argument_spec(kind)["state"]["default"]
