# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts a patch on a simulated host, or takes it off."""

from __future__ import annotations

from ansible_collections.kpatch.fleet.plugins.module_utils.manifest import module_name
from ansible_collections.kpatch.fleet.plugins.plugin_utils.simulated import SimulatedAction, artifact, loaded


class ActionModule(SimulatedAction):
    step = "patch"

    def _act(self, arguments):
        host, module = self.file["host"], module_name(arguments["name"])
        on = arguments.get("state") == "enabled"
        there = any(patch["module"] == module for patch in host["patches"])
        if (stop := self.change(on != there, f"patch {arguments['name']}")) is not None:
            return stop
        if on and not host["core"]:
            return {"failed": True, "reason": "core-missing", "msg": "the core module is not loaded"}
        host["patches"] = [patch for patch in host["patches"] if patch["module"] != module]
        if on:
            host["patches"].append(loaded(artifact(arguments, host, arguments["name"])))
        return {"changed": True, "msg": f"{arguments['name']}: changed"}
