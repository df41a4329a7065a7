# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rollout takes off with nothing in its place, and whether the operator has said that it is to go.

A patch set is all that is to be on: who names one fix, and means to add it, would open again what the others mend.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

from ansible_collections.kpatch.fleet.plugins.plugin_utils import plan as plans
from ansible_collections.kpatch.fleet.plugins.plugin_utils.errors import FleetError

# The hosts that lose a patch, by its name.
Losses = dict[str, list[str]]
# So many hosts of each patch are named in a message; plan.json has all of them.
_NAMED = 10


def of(plan: dict[str, Any]) -> Losses:
    """What the hosts that *plan* changes lose."""
    return plans.hosts_by(plan, "loses")


def refuse(found: Losses, drop: list[str]) -> None:
    """FleetError if one of the patches of *found* is not named by *drop*, by its name or by a pattern."""
    silent = {name: hosts for name, hosts in found.items() if not any(fnmatchcase(name, one) for one in drop)}
    if not silent:
        return
    names = ",".join(silent)
    where = "; ".join(f"{name} on {_some(hosts)}" for name, hosts in silent.items())
    raise FleetError(
        f"{_count(silent, 'would lose')}: {where}. kpatch_patches is all that is to be on; it does not name that, and "
        f"nothing in it takes its place. To leave it on, add it there, or give -e kpatch_keep={names}. "
        f"To take it off, give -e kpatch_drop={names}. Nothing was changed"
    )


def lines(found: Losses) -> list[str]:
    """What a plan says of it before anything else."""
    return [f"{_count(found, 'LOSE')}, with nothing in place of it: {', '.join(found)}"] if found else []


def _count(found: Losses, verb: str) -> str:
    hosts = len({host for some in found.values() for host in some})
    patches = f"{len(found)} patch{'' if len(found) == 1 else 'es'}"
    return f"{hosts} host{'' if hosts == 1 else 's'} {verb} {patches}"


def _some(hosts: list[str]) -> str:
    more = f" and {len(hosts) - _NAMED} more" if len(hosts) > _NAMED else ""
    return ", ".join(hosts[:_NAMED]) + more
