# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks at a simulated host."""

from __future__ import annotations

from typing import Any

from ansible_collections.kpatch.fleet.plugins.plugin_utils.simulated import Result, SimulatedAction


class ActionModule(SimulatedAction):
    def _act(self, arguments: dict[str, Any]) -> Result:
        return {"changed": False, "host": self.file["host"]}
