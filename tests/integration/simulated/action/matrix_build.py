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


class ActionModule(ActionBase):  # type: ignore[misc]
    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        variables = task_vars or {}
        arguments = self._task.args
        assert (Path(arguments["kmod"]) / "core").is_dir()
        self._log = Path(variables["simulated_hosts"]) / "built.log"
        self._bad = variables.get("unbuildable", [])
        results = []
        for row in arguments["kernels"]:
            assert sorted(row["kernel"]) == ["build_id", "machine", "release", "version"]
            results.append(self._build(row, "kpatch", "the core module"))
            if "msg" not in results[-1]:
                results += [self._build(row, patch["name"], patch["name"]) for patch in arguments["patches"]]
        failures = [one["msg"] for one in results if "msg" in one]
        told = {"failed": True, "msg": "\n".join(failures)} if failures else {}
        return {**result, "changed": False, "results": results, **told}

    def _build(self, row: dict[str, Any], name: str, title: str) -> dict[str, Any]:
        release = row["kernel"]["release"]
        what = {"what": f"{title} for {row['label']}", "label": row["label"], "name": name}
        with self._log.open("a") as log:
            log.write(f"{release} {name}\n")
        if release in self._bad:
            return {**what, "msg": f"{release}: no headers package is to be had", "refusals": []}
        if name in self._bad:
            refusals = [{"file": "fs/a.c", "function": "f", "reason": "is __init"}]
            return {**what, "msg": f"{name} can't be built:\n  fs/a.c: f: is __init", "refusals": refusals}
        path = (Path(self._task.args["store"]) / release / name / "current").resolve()
        made = {"changed": False, "manifest": manifest.load(path / "manifest.json"), "path": str(path)}
        return {**what, **made, "signature": None, "offsets": []}
