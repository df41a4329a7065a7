# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judges a batch after its soak, and says what has to be taken back."""

from __future__ import annotations

from typing import Any

from ansible_collections.kpatch.fleet.plugins.plugin_utils import ledger, soak, undo
from ansible_collections.kpatch.fleet.plugins.plugin_utils import plan as plans
from ansible_collections.kpatch.fleet.plugins.plugin_utils.action import ControllerAction, Result, directory


class ActionModule(ControllerAction):
    """Like the gate's, its verdict is a result and no failure."""

    SPEC = {
        "rollout": {"type": "path", "required": True},
        "hosts": {"type": "list", "elements": "str", "required": True},
    }

    def act(self, arguments: dict[str, Any]) -> Result:
        path = directory(arguments["rollout"])
        plan = plans.load(path)
        batch = plans.batch_of(plan, arguments["hosts"][0])
        verdict = soak.judge(plan, ledger.read(path / plans.LEDGER), batch)
        for name, found in verdict.hosts.items():
            ledger.append(path / plans.LEDGER, "host", host=name, batch=batch, state=found.state, reason=found.reason)
        ledger.append(path / plans.LEDGER, "verdict", batch=batch, verdict=verdict.verdict, reasons=verdict.reasons)
        now = ledger.read(path / plans.LEDGER)
        back = undo.hosts(plan, now, batch)
        if back:
            scope = plan["policy"]["on_failure"]
            ledger.append(path / plans.LEDGER, "undo", batch=batch, scope=scope, hosts=back)
        self.show(_lines(f"batch {batch} of {len(plan['batches'])}", verdict, back))
        return {"verdict": verdict.verdict, "reasons": verdict.reasons, "batch": batch, "undo": undo.orders(now, back)}


def _lines(where: str, verdict: soak.Judgement, back: list[str]) -> list[str]:
    told = [f"{where}: {verdict.verdict}", *(f"  {reason}" for reason in verdict.reasons)]
    return [*told, f"to be taken back: {', '.join(back)}"] if back else told
