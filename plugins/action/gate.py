# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides whether the next batch of a rollout may begin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible_collections.kpatch.fleet.plugins.plugin_utils import gate, lease, ledger
from ansible_collections.kpatch.fleet.plugins.plugin_utils import plan as plans
from ansible_collections.kpatch.fleet.plugins.plugin_utils.action import ControllerAction, Result, directory


class ActionModule(ControllerAction):
    """Reads the ledger; a closed gate is a result, not a failure, so that the report is still written."""

    SPEC = {
        "rollout": {"type": "path", "required": True},
        "hosts": {"type": "list", "elements": "str", "required": True},
    }

    def act(self, arguments: dict[str, Any]) -> Result:
        path = directory(arguments["rollout"])
        plan = plans.load(path)
        decision = gate.decide(plan, ledger.read(path / plans.LEDGER), arguments["hosts"])
        if not plan["check"]:
            decision.reasons.extend(_lease(path.parents[1], plan))
        ledger.append(
            path / plans.LEDGER, "gate", batch=decision.batch, open=not decision.reasons, reasons=decision.reasons
        )
        where = f"batch {decision.batch} of {len(plan['batches'])}"
        self.show(gate.lines(decision, where, arguments["hosts"]))
        return {"open": not decision.reasons, "reasons": decision.reasons, "batch": decision.batch}


def _lease(home: Path, plan: dict[str, Any]) -> list[str]:
    """Why another run has the fleet now; keeps the lease up if none has."""
    lost = lease.check(home, plan["id"])
    if not lost:
        lease.take(home, plan["id"], plan["policy"]["soak"])
    return [lost] if lost else []
