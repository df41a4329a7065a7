# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts the core module on a simulated host, or takes it off."""

from __future__ import annotations

from ansible_collections.kpatch.fleet.plugins.plugin_utils.simulated import SimulatedAction, artifact, loaded


class ActionModule(SimulatedAction):
    step = "core"

    def _act(self, arguments):
        host = self.file["host"]
        on = arguments.get("state") != "absent"
        if (stop := self.change(on != bool(host["core"]), "core")) is not None:
            return stop
        if not on and host["patches"]:
            return {"failed": True, "reason": "core-in-use", "msg": "patches are registered"}
        host["core"] = loaded(artifact(arguments, host, "kpatch")) if on else None
        return {"changed": True, "msg": "core: changed"}
