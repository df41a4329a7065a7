# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""On which hosts a rollout is taken back once a gate has failed."""

from __future__ import annotations

from typing import Any

from ansible_collections.kpatch.fleet.plugins.plugin_utils import decision
from ansible_collections.kpatch.fleet.plugins.plugin_utils.ledger import Ledger

# What a patch may have done to a host. One that refused it (apply-failed) has at most the patches
# before it in the set, whole and working.
HARM = ("lost", "needs-check", "kernel-changed")


def orders(ledger: Ledger, names: list[str]) -> dict[str, dict[str, Any]]:
    """For each of the hosts *names* the 'order' that changed it, and what it ran before ('runs')."""
    begun = {entry["host"]: entry for entry in ledger.entries if entry["event"] == "begin"}
    return {name: {"order": begun[name].get("order") or "", "runs": begun[name].get("runs")} for name in names}


def hosts(plan: dict[str, Any], ledger: Ledger, batch: int) -> list[str]:
    """The hosts of *batch*, or of all batches, that were changed, if the policy says so and *batch* came to harm."""
    scope = plan["policy"]["on_failure"]
    if plan["check"] or plan["want"] != "applied" or scope == "hold":
        return []
    found = decision.hosts(plan, ledger)
    harmed = any(host["batch"] == batch and host["done"] and host["judged"] in HARM for host in found)
    if not harmed or decision.decide(plan, ledger).verdict != "stop":
        return []
    begun = ledger.begun()
    return [host["host"] for host in found if host["host"] in begun and (scope == "all" or host["batch"] == batch)]
