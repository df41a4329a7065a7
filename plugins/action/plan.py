# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes down what a rollout is to do, before it does anything."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible_collections.kpatch.fleet.plugins.plugin_utils import (
    history,
    lease,
    ledger,
    losses,
    patchset,
    plan_lines,
    policy,
    resume,
)
from ansible_collections.kpatch.fleet.plugins.plugin_utils import plan as plans
from ansible_collections.kpatch.fleet.plugins.plugin_utils.action import ControllerAction, Result, directory
from ansible_collections.kpatch.fleet.plugins.plugin_utils.errors import FleetError


class ActionModule(ControllerAction):
    """Freezes the plan in a directory of its own, or takes up a frozen one."""

    SPEC = {
        "looks": {"type": "dict", "required": True},
        "patches": {"type": "list", "elements": "dict", "required": True},
        "state": {"type": "str", "choices": ["applied", "absent"], "default": "applied"},
        "core": {"type": "bool", "default": True},
        "batches": {"type": "list", "elements": "raw", "default": [1, "50%", "100%"]},
        "policy": {"type": "dict", "default": {}},
        "store": {"type": "path", "required": True},
        "home": {"type": "path", "required": True},
        "id": {"type": "str"},
        "downgrade": {"type": "bool", "default": False},
        "keep": {"type": "list", "elements": "str", "default": []},
        "drop": {"type": "list", "elements": "str", "default": []},
        "resume": {"type": "str"},
        "retry": {"type": "str"},
    }

    def act(self, arguments: dict[str, Any]) -> Result:
        patchset.names(arguments["patches"])
        _refuse_slice(self.variables)
        self._home = directory(arguments["home"])
        self._looks = arguments["looks"]
        self._order = self._ordered(arguments)
        if arguments["resume"]:
            return self._resume(arguments["resume"])
        identity = plans.check_id(arguments["id"] or _now())
        if arguments["retry"]:
            earlier = resume.find(self._home, arguments["retry"])
            found = resume.failed(plans.load(earlier), ledger.read(earlier / plans.LEDGER))
            self._looks = resume.only(self._looks, found)
        return self._make(identity)

    def _ordered(self, arguments: dict[str, Any]) -> plans.Order:
        rules = policy.check(arguments["policy"])
        domains = _domains(rules["domain"], self._looks, self.variables)
        store = directory(arguments["store"])
        return plans.Order(
            arguments["state"],
            arguments["patches"],
            store,
            arguments["core"],
            arguments["batches"],
            rules,
            domains,
            arguments["downgrade"],
            arguments["keep"],
            arguments["drop"],
        )

    def _make(self, identity: str) -> Result:
        plan = plans.make(identity, self._order, self._looks, self.check)
        losses.refuse(losses.of(plan), self._order.drop)
        seen = history.check(self._home, plan, self._order.downgrade)
        self._take_lease(identity)
        path = plans.create(self._home, identity, self.check)
        plans.write(path, plan)
        if not self.check:
            history.keep(self._home, seen)
        ledger.append(path / plans.LEDGER, "plan", id=identity, batches=len(plan["batches"]))
        self.show(plan_lines.lines(plan, self.width))
        return self._result(path, plan, plan["batches"])

    def _resume(self, what: str) -> Result:
        path = resume.find(self._home, what)
        plan = plans.load(path)
        resume.agree(plan, self._order.want, self._order.names)
        left = resume.rest(plan, ledger.read(path / plans.LEDGER), self._looks)
        order = resume.order(self._order, plan)
        _kernels, fresh = plans.assess(order, self._looks)
        now = {**plan, "hosts": {**plan["hosts"], **fresh}, "batches": left.batches}
        losses.refuse(losses.of(now), order.drop)
        self.show(plan_lines.wrapped([*resume.lines(plan, left), *plan_lines.what(now)], self.width))
        if self.check:
            path = resume.copy(path, plan, plans.create(self._home, plan["id"], self.check))
        self._take_lease(plan["id"])
        resume.keep_baseline(path, plan, fresh, left)
        ledger.append(path / plans.LEDGER, "resume", hosts=left.hosts, appeared=left.appeared, vanished=left.vanished)
        return self._result(path, plan, left.batches)

    def _take_lease(self, identity: str) -> None:
        if not self.check:
            lease.take(self._home, identity, self._order.policy["soak"])

    def _result(self, path: Path, plan: dict[str, Any], batches: list[list[str]]) -> Result:
        kept = {"id": plan["id"], "hosts": plan["hosts"], "policy": plan["policy"]}
        return {"rollout": str(path), "batches": batches, **kept}


def _refuse_slice(variables: dict[str, Any]) -> None:
    """AWX runs each slice of a job by itself: each would have canaries and a budget of its own."""
    # The jobs of a slice are started by a workflow that AWX makes and gives the name of their template.
    workflow, template = variables.get("awx_workflow_job_name"), variables.get("awx_job_template_name")
    if workflow and workflow == template:
        raise FleetError(
            f"this is a slice of the job {template!r}: canary and budget hold for a whole fleet only; set the job "
            "template's job slicing to 1 (or, if it isn't sliced, give the workflow another name than the template)"
        )


def _domains(variable: str, looks: dict[str, Any], variables: dict[str, Any]) -> dict[str, str]:
    """The failure domain of each host, out of its host variable."""
    if not variable:
        return {}
    found = {name: variables["hostvars"][name].get(variable) for name in looks}
    missing = [name for name, domain in found.items() if domain is None]
    if missing:
        raise FleetError(f"kpatch_policy: domain: {', '.join(missing[:5])}: there is no host variable {variable!r}")
    return {name: str(domain) for name, domain in found.items()}


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S.%fZ")
