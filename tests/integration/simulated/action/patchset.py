# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts the core module and patches on a simulated host, or takes them off."""

from __future__ import annotations

import json
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible_collections.kpatch.fleet.plugins.module_utils.manifest import module_name
from ansible_collections.kpatch.fleet.plugins.plugin_utils.simulated import Result, SimulatedAction, artifact, loaded


class ActionModule(SimulatedAction):
    def _act(self, arguments: dict[str, Any]) -> Result:
        on = arguments.get("state") != "absent"
        self.file["deadlines"] = [*self.file.get("deadlines", []), float(arguments["timeout"])]
        if arguments.get("state") == "restored":
            return self._restore(arguments)
        if not self._task.check_mode and on:
            kept = {key: self.file["host"][key] for key in ("core", "patches", "manifests")}
            self.file["former"] = {"order": arguments["order"], **json.loads(json.dumps(kept))}
        parts = [(self._core, "core", "kpatch")] if arguments["core"] else []
        parts += [(self._patch, "patch", name) for name in arguments["names"]]
        gone = [(False, self._patch, "obsolete", name) for name in arguments.get("obsolete") or []]
        results = []
        for comes, act, step, name in [*((on, *part) for part in (parts if on else reversed(parts))), *gone]:
            results.append(act(arguments, comes, step, name))
            if results[-1].get("failed"):
                return {**results[-1], "results": results, "host": self.file["host"]}
        changed = any(result["changed"] for result in results)
        done = {"changed": changed, "msg": "all parts", "results": results}
        if self.file.get("faults", {}).get("core") == "cut":
            self.file["host"]["order"] = {"order": arguments["order"], "running": False, "result": done}
            raise AnsibleConnectionFailure("the connection was closed")
        return {**done, "host": self.file["host"]}

    def _restore(self, arguments: dict[str, Any]) -> Result:
        former = self.file.get("former") or {}
        if former.pop("order", None) != arguments["undoes"]:
            return {"failed": True, "reason": "not-kept", "msg": "it has been changed again since"}
        if (stop := self.change("patch", True, "restore")) is not None:
            return stop
        self.file["host"].update(former)
        del self.file["former"]
        return {"changed": True, "msg": "it is as before", "results": [], "host": self.file["host"]}

    def _core(self, arguments: dict[str, Any], on: bool, step: str, name: str) -> Result:
        host = self.file["host"]
        made = artifact(arguments, host, name) if on else None
        if (stop := self.change(step, not as_wanted(host["core"], made), name)) is not None:
            return stop
        if not on and any(patch["backend"] == "kpatch" for patch in host["patches"]):
            return {"failed": True, "reason": "core-in-use", "msg": "patches are registered"}
        host["core"] = loaded(made) if made else None
        return {"changed": True, "msg": "core: changed"}

    def _patch(self, arguments: dict[str, Any], on: bool, step: str, name: str) -> Result:
        host, module = self.file["host"], module_name(name)
        made = artifact(arguments, host, name) if on else None
        found = next((patch for patch in host["patches"] if patch["module"] == module), None)
        if (stop := self.change(step, not as_wanted(found, made), f"patch {name}")) is not None:
            return stop
        if made and made["backend"] == "kpatch" and not host["core"]:
            return {"failed": True, "reason": "core-missing", "msg": "the core module is not loaded"}
        for kept in ("patches", "manifests"):
            host[kept] = [one for one in host[kept] if one["module"] != module]
        if made:
            host["patches"].append(loaded(made))
            host["manifests"].append({key: made[key] for key in ("module", "name", "srcversion", "build_id")})
        return {"changed": True, "msg": f"{name}: changed"}


def as_wanted(found: dict[str, Any] | None, made: dict[str, Any] | None) -> bool:
    """Whether what is loaded is the artifact *made*; None is nothing."""
    if found is None or made is None:
        return found is made
    return bool(found["srcversion"] == made["srcversion"])
