# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks at a simulated host; its checks say what the file says, look by look."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible_collections.kpatch.fleet.plugins.plugin_utils.simulated import Result, SimulatedAction


class ActionModule(SimulatedAction):
    def _act(self, arguments: dict[str, Any]) -> Result:
        self._later()
        return {
            "changed": False,
            "host": self.file["host"],
            "checks": [self._check(one) for one in arguments["checks"]],
        }

    def _later(self) -> None:
        """What happens to the host between two looks."""
        if self.file.get("later") and self.file["host"]["patches"]:
            then = self.file["later"].pop(0)
            self.file["host"].update(kernel=then.pop("kernel", self.file["host"]["kernel"]))
            self.file.update(then)
        if self.file.get("lost"):
            raise AnsibleConnectionFailure("no route to host")

    def _check(self, one: dict[str, Any]) -> dict[str, str]:
        words = self.file.get("checks", {}).get(one["name"], ["pass"])
        verdict = words.pop(0) if len(words) > 1 else words[0]
        return {"name": one["name"], "verdict": verdict, "detail": "as simulated"}
