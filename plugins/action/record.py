# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes one step of one host into the ledger of a rollout, and judges it."""

from __future__ import annotations

import time
from typing import Any

from ansible_collections.kpatch.fleet.plugins.plugin_utils import host_plan, lease, ledger, outcome, runs, soak, states
from ansible_collections.kpatch.fleet.plugins.plugin_utils import plan as plans
from ansible_collections.kpatch.fleet.plugins.plugin_utils.action import ControllerAction, Result, directory
from ansible_collections.kpatch.fleet.plugins.plugin_utils.states import FAULTS, Verdict


class ActionModule(ControllerAction):
    """What is recorded is on disk when the task ends."""

    SPEC = {
        "rollout": {"type": "path", "required": True},
        "step": {"type": "str", "choices": ["begin", "failed", "end", "look", "undo", "undone"], "required": True},
        "look": {"type": "dict"},
        "order": {"type": "str"},
        "before": {"type": "dict"},
        "results": {"type": "list", "elements": "raw", "default": []},
    }

    def act(self, arguments: dict[str, Any]) -> Result:
        self._path = directory(arguments["rollout"])
        self._host = str(self.variables["inventory_hostname"])
        self._plan, self._batch = host_plan.load(self._path, self._host)
        look, results = arguments["look"], arguments["results"]
        steps = {
            "begin": lambda: self._begin(look),
            "failed": lambda: self._failed(results),
            "end": lambda: self._end(look, outcome.with_order(results, look, arguments["order"])),
            "look": lambda: self._look(look),
            "undo": lambda: self._undo(look, arguments["before"] or {}),
            "undone": lambda: self._undone(look, results, arguments["before"] or {}),
        }
        result = steps[arguments["step"]]()
        if not self._plan["check"]:
            lease.keep_up(self._path.parents[1], self._plan["id"], self._plan["policy"]["soak"])
        return result

    def _begin(self, look: Any) -> Result:
        verdict = outcome.before(self._plan, self._host, look)
        self.show_verbose(soak.lines(self._host, "before", outcome.fault(self._plan, self._host, look), look))
        if verdict:
            nothing = {"act": False, "order": "", "core": False, "planned": {}, "obsolete": []}
            return {**self._outcome(verdict, look), **nothing}
        order = f"{self._plan['id']} {self._host} {time.time_ns()}"
        self._append("begin", order=order, runs=runs.seen(look))
        planned = plans.digests(self._plan, look["host"])
        obsolete = self._plan["hosts"][self._host].get("obsolete") or []
        return {"act": True, "order": order, "core": self._core(look["host"]), "planned": planned, "obsolete": obsolete}

    def _core(self, host: dict[str, Any]) -> bool:
        """Whether the core module is loaded before the patches, or unloaded after them."""
        if self._plan["want"] == "applied":
            return plans.loads_core(self._plan, host)
        return plans.removes_core(self._plan["core"], self._plan["patches"], host)

    def _failed(self, results: list[Any]) -> Result:
        failure = outcome.failed(results) or outcome.interrupted(results)
        self._append("failed", failure=failure)
        return {"failure": failure}

    def _end(self, look: Any, results: list[Any]) -> Result:
        if self._plan["check"]:
            return self._outcome(outcome.foreseen(self._plan, self._host, results), look)
        return self._outcome(outcome.after(self._plan, self._host, results, look), look)

    def _look(self, look: Any) -> Result:
        verdict, checks = soak.look(self._plan, self._host, look)
        self._append("look", state=verdict.state, reason=verdict.reason, checks=checks)
        bad = [one for one in soak.checks(look) if one["verdict"] != "pass"]
        well = verdict.state == self._plan["want"]
        self.show_verbose(soak.lines(self._host, "after", None if well else verdict, look))
        if not well or bad:
            told = [f"{one['name']}: {one['verdict']}, {one['detail']}" for one in bad]
            self.show([f"{self._host}: {'; '.join([verdict.reason or verdict.state, *told])}"])
        return {"state": verdict.state, "reason": verdict.reason}

    def _undo(self, look: Any, before: dict[str, Any]) -> Result:
        """Whether there is anything to take back: a host that refused it all, or put it back itself, has nothing."""
        there = not states.lost(look)
        cut_off = there and bool(look["host"].get("unfinished"))
        return {"act": cut_off or bool(outcome.changed(self._plan, self._host, look, before))}

    def _undone(self, look: Any, results: list[Any], before: dict[str, Any]) -> Result:
        verdict = outcome.undone(self._plan, self._host, results, look, before)
        self._append("undone", state=verdict.state, reason=verdict.reason, runs=runs.seen(look))
        well = {"absent": "taken back", "restored": "taken back to what ran before"}
        done = well.get(verdict.state, f"could not be taken back: {verdict.state}")
        self.show([f"{self._host}: {done}" + (f": {verdict.reason}" if verdict.reason else "")])
        return {"state": verdict.state, "reason": verdict.reason}

    def _outcome(self, verdict: Verdict, look: Any) -> Result:
        self._append("host", state=verdict.state, reason=verdict.reason, runs=runs.seen(look))
        self.show([f"{self._host}: {verdict.state}" + (f": {verdict.reason}" if verdict.reason else "")])
        return {"state": verdict.state, "reason": verdict.reason, "fault": verdict.state in FAULTS}

    def _append(self, event: str, **values: Any) -> None:
        ledger.append(self._path / plans.LEDGER, event, host=self._host, batch=self._batch, **values)
