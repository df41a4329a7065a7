# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts the hosts that are to be changed into batches: canaries first, then spread over domains and kernels."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

from ansible_collections.kpatch.fleet.plugins.plugin_utils.errors import FleetError
from ansible_collections.kpatch.fleet.plugins.plugin_utils.policy import Policy

Size = Any
_PERCENT = re.compile(r"([1-9][0-9]?|100)%")


@dataclass(frozen=True)
class Member:
    """A host with what batches are spread over: its kernel release and its failure domain."""

    name: str
    release: str = ""
    domain: str = ""


def make(hosts: list[Member], sizes: list[Size], policy: Policy) -> list[list[str]]:
    """The batches, in order; each host is in exactly one. A size is a number, or a share of all *hosts*."""
    counts = [_count(size, len(hosts)) for size in sizes]
    if not counts:
        raise FleetError("kpatch_batches is empty: give at least one size, e.g. [1, '50%', '100%']")
    canaries = _canaries(hosts, policy)
    bulk = _spread(_without(hosts, canaries))
    # More of the first batch are of its canary's own kernel: another one's bulk waits for its own canary.
    alike = [host for host in bulk if host.release == canaries[0].release or not policy["release_canaries"]]
    made = [_fill([*canaries[:1], *alike], counts[0], policy)] if hosts else []
    made += _all(canaries[1:], [len(canaries)], policy)
    made += _all(_without(bulk, made[0] if made else []), counts[1:] or counts, policy)
    return [[host.name for host in batch] for batch in made]


def _all(hosts: list[Member], counts: list[int], policy: Policy) -> list[list[Member]]:
    """*hosts* in batches of these sizes; the last size holds for the rest."""
    made: list[list[Member]] = []
    while hosts:
        made.append(_fill(hosts, counts[min(len(made), len(counts) - 1)], policy))
        hosts = _without(hosts, made[-1])
    return made


def _without(hosts: list[Member], taken: list[Member]) -> list[Member]:
    names = {host.name for host in taken}
    return [host for host in hosts if host.name not in names]


def _canaries(hosts: list[Member], policy: Policy) -> list[Member]:
    """The first host of each kernel release; without that, the first host."""
    first: dict[str, Member] = {}
    for host in hosts:
        first.setdefault(host.release if policy["release_canaries"] else "", host)
    return list(first.values())


def _spread(hosts: list[Member]) -> list[Member]:
    """In an order in which each stretch holds of every domain and kernel as large a share as all *hosts* do."""
    sizes = Counter((host.domain, host.release) for host in hosts)
    seen: Counter[tuple[str, str]] = Counter()
    placed = []
    for number, host in enumerate(hosts):
        group = (host.domain, host.release)
        seen[group] += 1
        placed.append(((seen[group] - 0.5) / sizes[group], number, host))
    return [host for _share, _number, host in sorted(placed, key=lambda one: one[:2])]


def _fill(hosts: list[Member], count: int, policy: Policy) -> list[Member]:
    """The first of *hosts* that the size and the limits allow; never none."""
    most = min(count, policy["max_down"] or count)
    limit = policy["max_down_per_domain"]
    batch: list[Member] = []
    domains: Counter[str] = Counter()
    for host in hosts:
        if len(batch) == most:
            break
        if not limit or domains[host.domain] < limit:
            batch.append(host)
            domains[host.domain] += 1
    return batch


def _count(size: Size, total: int) -> int:
    text = str(size).strip()
    if share := _PERCENT.fullmatch(text):
        return max(1, total * int(share.group(1)) // 100)
    if text.isdigit() and int(text) > 0:
        return int(text)
    raise FleetError(f"kpatch_batches: {size!r} is no size: use a number from 1, or a share from '1%' to '100%'")
