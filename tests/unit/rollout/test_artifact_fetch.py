# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An artifact's way from the builder's store into the controller's. If this breaks, half of one is taken for it."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from ansible.errors import AnsibleActionFail
from ansible_collections.kpatch.fleet.plugins.action.artifact_fetch import ActionModule
from ansible_collections.kpatch.fleet.plugins.plugin_utils import plan
from rollout_facts import RELEASE, put


def fetch(builder: Path, store: Path, monkeypatch: pytest.MonkeyPatch, spoil: bytes = b"") -> dict[str, Any]:
    """Fetch what *builder* has as 'kpatch'; *spoil* is added to the module on the way."""
    source = put(builder, "kpatch").parent
    manifest = json.loads((source / "manifest.json").read_text())
    arguments = {"path": str(source), "manifest": manifest, "store": str(store)}
    task = MagicMock(args=arguments, check_mode=False, async_val=0, diff=False)
    action = ActionModule(task, *[MagicMock() for _argument in range(5)])

    def slurp(module_name: str, module_args: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        content = Path(module_args["src"]).read_bytes() + spoil
        return {"content": base64.b64encode(content).decode()}

    monkeypatch.setattr(action, "_execute_module", slurp)
    return dict(action.run(task_vars={}))


def test_whole_and_then_current(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fetch(tmp_path / "builder", tmp_path / "store", monkeypatch)["changed"]
    assert plan.artifact(tmp_path / "store", RELEASE, "kpatch")


def test_what_was_changed_on_the_way_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AnsibleActionFail, match="is not the artifact of its manifest"):
        fetch(tmp_path / "builder", tmp_path / "store", monkeypatch, b"X")
    assert [path for path in (tmp_path / "store").rglob("*") if path.is_file() or path.is_symlink()] == []
