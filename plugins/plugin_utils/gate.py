# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gate before each batch: shut unless everything that has run is proven to be well.

Ansible's own limits don't count unreachable hosts, and don't add up over batches. This one asks the ledger.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from ansible_collections.kpatch.fleet.plugins.plugin_utils import blackout
from ansible_collections.kpatch.fleet.plugins.plugin_utils import decision as decisions
from ansible_collections.kpatch.fleet.plugins.plugin_utils import plan as plans
from ansible_collections.kpatch.fleet.plugins.plugin_utils import policy as policies
from ansible_collections.kpatch.fleet.plugins.plugin_utils.ledger import Ledger


@dataclass(frozen=True)
class Decision:
    """May *batch*, counted from 1, begin? Only if there are no *reasons* against it."""

    batch: int
    reasons: list[str]


def decide(plan: dict[str, Any], ledger: Ledger, hosts: list[str], now: datetime | None = None) -> Decision:
    """Whether *hosts* may be touched *now*: the hosts of one batch of the plan that have not been brought so far."""
    number = plans.batch_of(plan, hosts[0]) if hosts else 0
    decided = decisions.decide(plan, ledger)
    reasons = list(decided.reasons) if decided.verdict == "stop" else []
    reasons += _not_begun(plan, ledger, number)
    if not number or not _is_batch(plan["batches"][number - 1], ledger, hosts):
        reasons.append(f"these hosts are no batch of the plan {plan['id']}: {', '.join(hosts)}")
    reasons += [
        f"{name} in the store has been changed since the plan was made" for name in plans.changed_artifacts(plan)
    ]
    policy = plan["policy"]
    reasons += _blackout(policy, now or datetime.now(timezone.utc)) + _too_many_down(plan, policy, ledger, hosts)
    return Decision(number, reasons)


def lines(decision: Decision, where: str, hosts: list[str]) -> list[str]:
    """What the terminal shows."""
    if decision.reasons:
        return [f"STOPPED before {where}; its hosts are not touched:", *(f"  {reason}" for reason in decision.reasons)]
    return [f"{where}: {', '.join(hosts[:10])}{' ...' if len(hosts) > 10 else ''}"]


def _is_batch(batch: list[str], ledger: Ledger, hosts: list[str]) -> bool:
    """Whether *hosts* are all of *batch* that is left to do."""
    away = {*ledger.outcomes(), *ledger.vanished()}
    return set(hosts) <= set(batch) and all(host in hosts or host in away for host in batch)


def _not_begun(plan: dict[str, Any], ledger: Ledger, number: int) -> list[str]:
    """Hosts of earlier batches of which no outcome is known: silence is no success."""
    known = {*ledger.outcomes(), *ledger.begun(), *ledger.vanished()}
    earlier = [host for batch in plan["batches"][: max(number - 1, 0)] for host in batch]
    return [f"{host} has no outcome yet" for host in earlier if host not in known]


def _blackout(policy: policies.Policy, now: datetime) -> list[str]:
    end = blackout.until(policy["blackout"], now)
    return [f"no batch may begin before {end:%a %H:%M} UTC (kpatch_policy: blackout)"] if end else []


def _too_many_down(plan: dict[str, Any], policy: policies.Policy, ledger: Ledger, hosts: list[str]) -> list[str]:
    """Hosts that this rollout has lost are down already when those of the batch may go down."""
    lost = [host["host"] for host in decisions.hosts(plan, ledger) if host["state"] == "lost"]
    down = {*lost, *hosts} if lost else set()
    reasons = []
    if policy["max_down"] and len(down) > policy["max_down"]:
        reasons.append(f"{len(down)} hosts could be down at once, of which {len(lost)} are lost already")
    domains = Counter(plan["hosts"][host].get("domain", "") for host in down)
    for domain, count in domains.items():
        if policy["max_down_per_domain"] and count > policy["max_down_per_domain"]:
            reasons.append(f"{count} hosts of {domain or 'one domain'} could be down at once, lost ones included")
    return reasons
