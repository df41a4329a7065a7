# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host as a JSON file: what host_info would return of it, and what goes wrong on it.

The file is named by the variable simulated_hosts (a directory) and the host's name. Its keys: 'host'; 'lost', true once
nothing answers; 'faults', by step ('core', 'patch'): 'fail', 'lost' (during the step), 'taint', 'taint-then-fail',
'reboot', 'slow' (a minute), 'slowly' (a quarter of one), 'oops-later', 'cut' (the host goes on, but nobody is told);
'later', what becomes of the file at each look once it is patched; 'checks', the verdicts look by look, by name. Every
step that would change something is written to touched.log beside it, every round trip to trips.log.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible_collections.kpatch.fleet.plugins.module_utils.manifest import module_name
from ansible_collections.kpatch.fleet.plugins.plugin_utils import plan

Result = dict[str, Any]


class SimulatedAction(ActionBase):  # type: ignore[misc]
    """The file is read before `_act` and written after it."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> Result:
        result: Result = super().run(tmp, task_vars)
        variables = task_vars or {}
        self.name = variables["inventory_hostname"]
        self.directory = Path(variables["simulated_hosts"])
        self.path = self.directory / f"{self.name}.json"
        self.file = json.loads(self.path.read_text())
        with (self.directory / "trips.log").open("a") as log:
            log.write(f"{self.name} {self._task.action}\n")
        try:
            if self.file.get("lost"):
                raise AnsibleConnectionFailure("no route to host")
            result.update(self._act(self._task.args))
        finally:
            self.path.write_text(json.dumps(self.file))
        return result

    def _act(self, arguments: dict[str, Any]) -> Result:
        raise NotImplementedError

    def change(self, step: str, wanted: bool, what: str) -> Result | None:
        """None if the change may go on, else the result."""
        if not wanted:
            return {"changed": False, "msg": f"{what}: as wanted"}
        if self._task.check_mode:
            return {"changed": True, "msg": f"{what}: would change"}
        with (self.directory / "touched.log").open("a") as log:
            log.write(f"{self.name} {what}\n")
        return self._fault(step)

    def _fault(self, step: str) -> Result | None:
        fault = self.file.get("faults", {}).get(step)
        if fault == "fail":
            return {"failed": True, "reason": "busy", "msg": "task 42 (sleep) is in meminfo_proc_show"}
        if fault == "lost":
            self.file["lost"] = True
            raise AnsibleConnectionFailure("the connection was closed")
        if fault in ("slow", "slowly"):
            time.sleep(60 if fault == "slow" else 15)
        if fault == "taint-then-fail":
            self.file["faults"] = {"patch": "fail"}
        if fault == "oops-later":
            later = json.loads(json.dumps(self.file["host"]["kernel"]))
            later["counters"]["oops"] += 1
            self.file["later"] = [{}, {"kernel": later}]
        if fault in ("taint", "taint-then-fail"):
            self.file["host"]["kernel"]["taint"]["flags"] += "D"
        if fault == "reboot":
            self.file["host"]["kernel"]["boot_id"] = "another"
        return None


def artifact(arguments: dict[str, Any], host: dict[str, Any], name: str) -> dict[str, Any]:
    found = plan.artifact(Path(arguments["store"]), host["kernel"]["release"], name)
    assert found is not None, f"the store has no {name}"
    return found


def loaded(manifest: dict[str, Any]) -> dict[str, Any]:
    return {
        "module": module_name(manifest["name"]),
        "srcversion": manifest["srcversion"],
        "build_id": manifest["build_id"],
        "initstate": "live",
        "backend": manifest["backend"],
        "abi": 1,
        "enabled": True,
        "transition": False,
    }
