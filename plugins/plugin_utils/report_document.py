# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole report as data, of which every format is made; its schema is page/report.schema.json."""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.kpatch.fleet.plugins.plugin_utils import report, report_facts
from ansible_collections.kpatch.fleet.plugins.plugin_utils.ledger import Ledger

# Control characters could move a terminal's cursor or colour what follows; no name or reason needs them.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def document(plan: dict[str, Any], ledger: Ledger) -> dict[str, Any]:
    """What the plan and the ledger tell, control characters taken out."""
    ledger = report_facts.sound(ledger)
    short = report.document(plan, ledger)
    hosts = report_facts.enrich(plan, ledger, short["hosts"])
    pending = [
        number
        for number in range(1, len(plan["batches"]) + 1)
        if any(host["batch"] == number and not host["done"] for host in hosts)
    ]
    whole = {
        **short,
        "hosts": hosts,
        "timeline": report_facts.timeline(plan, ledger),
        "coverage": report_facts.coverage(plan, hosts),
        "fleet": report_facts.fleet(plan, hosts),
        "patch_set": _patch_set(plan),
        "missing": report_facts.missing(plan, ledger, hosts, pending),
        "log": report_facts.log(ledger),
    }
    return _clean(whole)  # type: ignore[no-any-return]


def _patch_set(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """Each patch with what the operator said of it and what the store said of its artifacts."""
    said = {patch["name"]: patch for patch in plan.get("patch_set") or []}
    return [
        {
            "name": name,
            "cves": said.get(name, {}).get("cves") or [],
            "description": said.get(name, {}).get("description") or "",
            "kernels": {
                release: {
                    "consistency": kernel["made"].get(name, {}).get("consistency"),
                    **kernel["artifacts"][name],
                }
                for release, kernel in sorted(plan["kernels"].items())
                if name in kernel["artifacts"]
            },
        }
        for name in plan["patches"]
    ]


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return _CONTROL.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_clean(key): _clean(one) for key, one in value.items()}
    return [_clean(one) for one in value] if isinstance(value, list) else value
