# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes and prints what a rollout has come to."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from ansible_collections.kpatch.fleet.plugins.plugin_utils import (
    decision,
    lease,
    ledger,
    publish,
    report,
    report_document,
    report_markdown,
    report_page,
    report_tables,
    rollout_metrics,
)
from ansible_collections.kpatch.fleet.plugins.plugin_utils import plan as plans
from ansible_collections.kpatch.fleet.plugins.plugin_utils.action import ControllerAction, Result, directory


class ActionModule(ControllerAction):
    """Made of the plan and the ledger alone, so that it can be made again at any time."""

    SPEC = {
        "rollout": {"type": "path"},
        "home": {"type": "path"},
        "id": {"type": "str"},
        "require_all": {"type": "bool", "default": True},
        "metrics": {"type": "path"},
    }

    def act(self, arguments: dict[str, Any]) -> Result:
        path = _find(arguments)
        plan = plans.load(path)
        entries = ledger.read(path / plans.LEDGER)
        document = report_document.document(plan, entries)
        self.show(["", *report.console(document, self.width)])
        if plan["check"]:
            # What check mode wrote was for itself.
            shutil.rmtree(path, ignore_errors=True)
        elif not self.check:
            _publish(path, document)
            if arguments["metrics"]:
                rollout_metrics.write(directory(arguments["metrics"]), document)
            self.show([f"report: {path / 'report.html'} (also .md, .json, .csv and .xml)"])
            lease.release(path.parents[1], plan["id"])
        failures = decision.failures(plan, entries, arguments["require_all"])
        return {"report": document, "failures": failures, "rollout": str(path)}


def _publish(path: Path, document: dict[str, Any]) -> None:
    publish.publish(path / "report.json", json.dumps(document, indent=2, sort_keys=True) + "\n")
    publish.publish(path / "report.md", report_markdown.markdown(document))
    publish.publish(path / "report.html", report_page.html(document))
    publish.publish(path / "report.csv", report_tables.as_csv(document))
    publish.publish(path / "report.xml", report_tables.as_junit(document))


def _find(arguments: dict[str, Any]) -> Path:
    if arguments["rollout"]:
        return directory(arguments["rollout"])
    return plans.find(directory(arguments["home"] or "~/.local/share/kpatch.fleet"), arguments["id"])
