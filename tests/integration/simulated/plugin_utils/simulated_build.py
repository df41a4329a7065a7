# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A builder that writes down what it was asked for, and can't build what the variable unbuildable names.

An entry of unbuildable is a kernel release (no tree can be prepared) or a patch's name (it is refused).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.kpatch.fleet.plugins.module_utils import manifest


class SimulatedBuild(ActionBase):
    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        arguments = self._task.args
        release, name = arguments["kernel"]["release"], arguments.get("name", "kpatch")
        assert sorted(arguments["kernel"]) == ["build_id", "machine", "release", "version"]
        assert (Path(arguments["kmod"]) / "core").is_dir()
        with (Path(task_vars["simulated_hosts"]) / "built.log").open("a") as log:
            log.write(f"{release} {name}\n")
        bad = task_vars.get("unbuildable", [])
        if release in bad:
            return {**result, "failed": True, "msg": f"{release}: no headers package is to be had", "refusals": []}
        if name in bad:
            refusals = [{"file": "fs/a.c", "function": "f", "reason": "is __init"}]
            msg = f"{name} can't be built:\n  fs/a.c: f: is __init"
            return {**result, "failed": True, "msg": msg, "refusals": refusals}
        path = (Path(arguments["store"]) / release / name / "current").resolve()
        return {**result, "changed": False, "manifest": manifest.load(path / "manifest.json"), "path": str(path)}
