# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes down what a rollout is to do, before it does anything."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from ansible_collections.kpatch.fleet.plugins.plugin_utils import ledger, patchset
from ansible_collections.kpatch.fleet.plugins.plugin_utils import plan as plans
from ansible_collections.kpatch.fleet.plugins.plugin_utils.action import ControllerAction, Result, directory


class ActionModule(ControllerAction):
    """Freezes the plan in a directory of its own."""

    SPEC = {
        "looks": {"type": "dict", "required": True},
        "patches": {"type": "list", "elements": "dict", "required": True},
        "state": {"type": "str", "choices": ["applied", "absent"], "default": "applied"},
        "core": {"type": "bool", "default": True},
        "batches": {"type": "list", "elements": "raw", "default": [1, "50%", "100%"]},
        "store": {"type": "path", "required": True},
        "home": {"type": "path", "required": True},
        "id": {"type": "str"},
    }

    def act(self, arguments: dict[str, Any]) -> Result:
        patchset.names(arguments["patches"])
        identity = plans.check_id(arguments["id"] or _now())
        store = directory(arguments["store"])
        order = plans.Order(arguments["state"], arguments["patches"], store, arguments["core"], arguments["batches"])
        plan = plans.make(identity, order, arguments["looks"], self.check)
        path = plans.create(directory(arguments["home"]), identity, self.check)
        plans.write(path, plan)
        ledger.append(path / plans.LEDGER, "plan", id=identity, batches=len(plan["batches"]))
        self.show(plans.lines(plan))
        return {"rollout": str(path), "id": identity, "batches": plan["batches"], "hosts": plan["hosts"]}


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S.%fZ")
