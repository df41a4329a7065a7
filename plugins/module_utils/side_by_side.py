# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs several chains of work at once: in each, one thing comes first, and the others need it.

Not in build/, whose code is part of what an artifact is made from: in which order things are built changes none.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any, Callable

Answer = dict[str, Any]
Work = Callable[[], Answer]


@dataclass(frozen=True)
class Chain:
    """*others* are begun once *first* has answered without a `msg`, which says that it failed."""

    first: Work
    others: Sequence[Work]


def run(chains: Sequence[Chain], jobs: int) -> list[list[Answer]]:
    """For each chain the answers, of the first and, unless that failed, of the others, in their order.

    *jobs* things are under way at once. A failure keeps nothing from being done but the rest of its own chain. What
    work raises is raised here, once all that had begun has ended.
    """
    with ThreadPoolExecutor(jobs) as pool:
        chains_of = {pool.submit(chain.first): chain for chain in chains}
        futures = {first: [first] for first in chains_of}
        for first in as_completed(chains_of):
            if "msg" not in first.result():
                futures[first] += [pool.submit(work) for work in chains_of[first].others]
        return [[future.result() for future in chain] for chain in futures.values()]
