# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many lives of a patch under load: loaded, enabled, disabled and unloaded, the core module with it.

If this fails, a host that is patched for years loses memory with each patch, or crashes once in a thousand.

CYCLES says how many. Fewer than 200 show that it works, and too little of a trend to judge memory by.
"""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

from host import Host

CYCLES = int(os.environ.get("CYCLES", "5"))
_SECONDS_PER_CYCLE = 15
_DRIVER = Path(__file__).with_name("cycles_drive.py")
_TREND_FROM = 200
# What a leak of one thing in each cycle would be, halved: objects, areas, kB, bytes of a cycle's smallest loss.
_TOLERANCE = 0.5


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The median of the slopes between all pairs of points (Theil and Sen): one outlier does not move it."""
    return statistics.median((y2 - y1) / (x2 - x1) for (x1, y1), (x2, y2) in combinations(points, 2))


def leaks(samples: Sequence[dict[str, int]]) -> dict[str, float]:
    """What grows with the cycles, and by how much in each."""
    found = {}
    for name in sorted(set.intersection(*(set(sample) for sample in samples)) - {"cycle"}):
        growth = slope([(sample["cycle"], sample[name]) for sample in samples])
        if growth >= _TOLERANCE:
            found[name] = round(growth, 2)
    return found


def test_nothing_is_left_of_a_patch_that_went(host: Host) -> None:
    host.unload("kpatch")
    host.run("insmod /run/kpt/kpt_judge.ko && insmod /run/kpt/kpt_witness.ko")
    seen = json.loads(host.drive(_DRIVER, "/run/kpt", str(CYCLES), timeout=120 + _SECONDS_PER_CYCLE * CYCLES))
    print(f"{CYCLES} cycles in {seen['seconds']:.0f} s")
    assert host.run("grep -E '^(kpatch|kpt_swap) ' /proc/modules; :") == ""
    growing = leaks(seen["samples"])
    print(f"growing: {growing or 'nothing'}")
    assert CYCLES < _TREND_FROM or growing == {}
