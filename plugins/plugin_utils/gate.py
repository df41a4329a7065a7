# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gate before each batch: shut unless everything that has run is proven to be well.

Ansible's own limits don't count unreachable hosts, and don't add up over batches. This one asks the ledger.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ansible_collections.kpatch.fleet.plugins.plugin_utils import decision as decisions
from ansible_collections.kpatch.fleet.plugins.plugin_utils import plan as plans
from ansible_collections.kpatch.fleet.plugins.plugin_utils.ledger import Ledger


@dataclass(frozen=True)
class Decision:
    """May *batch*, counted from 1, begin? Only if there are no *reasons* against it."""

    batch: int
    reasons: list[str]


def decide(plan: dict[str, Any], ledger: Ledger, hosts: list[str]) -> Decision:
    """Whether *hosts* may be touched now; they have to be a whole batch of the plan."""
    number = plans.batch_of(plan, hosts[0]) if hosts else 0
    decided = decisions.decide(plan, ledger)
    reasons = list(decided.reasons) if decided.verdict == "stop" else []
    reasons += _not_begun(plan, ledger, number)
    if not number or sorted(plan["batches"][number - 1]) != sorted(hosts):
        reasons.append(f"these hosts are no batch of the plan {plan['id']}: {', '.join(hosts)}")
    reasons += [
        f"{name} in the store has been changed since the plan was made" for name in plans.changed_artifacts(plan)
    ]
    return Decision(number, reasons)


def lines(decision: Decision, where: str, hosts: list[str]) -> list[str]:
    """What the terminal shows."""
    if decision.reasons:
        return [f"STOPPED before {where}; its hosts are not touched:", *(f"  {reason}" for reason in decision.reasons)]
    return [f"{where}: {', '.join(hosts[:10])}{' …' if len(hosts) > 10 else ''}"]


def _not_begun(plan: dict[str, Any], ledger: Ledger, number: int) -> list[str]:
    """Hosts of earlier batches of which no outcome is known: silence is no success."""
    known, begun = ledger.outcomes(), ledger.begun()
    earlier = [host for batch in plan["batches"][: max(number - 1, 0)] for host in batch]
    return [f"{host} has no outcome yet" for host in earlier if host not in known and host not in begun]
