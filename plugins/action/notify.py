# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells webhooks how a rollout stands."""

from __future__ import annotations

from typing import Any

from ansible_collections.kpatch.fleet.plugins.plugin_utils import ledger, notice
from ansible_collections.kpatch.fleet.plugins.plugin_utils import plan as plans
from ansible_collections.kpatch.fleet.plugins.plugin_utils.action import ControllerAction, Result, directory


class ActionModule(ControllerAction):
    """A webhook that can't be told is a warning: it must not stop a rollout."""

    SPEC = {
        "rollout": {"type": "path", "required": True},
        "event": {"type": "str", "choices": list(notice.EVENTS), "required": True},
        "urls": {"type": "list", "elements": "str", "required": True, "no_log": True},
    }

    def act(self, arguments: dict[str, Any]) -> Result:
        urls = [notice.check(url) for url in arguments["urls"]]
        path = directory(arguments["rollout"])
        if self.check or not urls:
            return {"event": arguments["event"], "untold": []}
        made = notice.make(plans.load(path), ledger.read(path / plans.LEDGER), arguments["event"])
        untold = [problem for url in urls if (problem := notice.send(url, made))]
        for problem in untold:
            self._display.warning(problem)
        return {"event": made["event"], "untold": untold}
