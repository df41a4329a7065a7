# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The witness's table: printed, and written between its marks in a page."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LEVELS = ("call", "syscall", "thread", "kernel")
BEGIN, END = "<!-- witness: begin -->", "<!-- witness: end -->"
_HEAD = ("kernel", "model", "switches", "refused", "calls", *LEVELS, "window", "transition")

_LEGEND = (
    "Two functions in two modules change their calling convention together, while processes, kernel threads and a "
    "timer call them. Counted is how often old and new met: within one call of the outer function, within one system "
    "call, in a thread that had run the switch's target and then ran the other again, and in the whole kernel, where "
    "somebody was in the other while somebody ran the target."
)


@dataclass(frozen=True)
class Row:
    """One model on one kernel: what it promises, and what was seen."""

    kernel: str
    model: str
    promises: Sequence[str]
    seen: dict[str, Any]

    def cells(self) -> list[str]:
        """As the table has them."""
        seen = self.seen
        mixtures = [f"{seen[level]}{' (promised: none)' if level in self.promises else ''}" for level in LEVELS]
        counts = [str(len(seen["times"])), str(len(seen["refused"])), str(seen["old"] + seen["new"])]
        return [self.kernel, self.model, *counts, *mixtures, _median(seen["windows"]), _median(seen["times"])]


def _median(nanoseconds: Sequence[int]) -> str:
    if not any(nanoseconds):
        return "none"
    return f"{statistics.median(nanoseconds) / 1e6:.2f} ms (at most {max(nanoseconds) / 1e6:.2f})"


def table(rows: Iterable[Row]) -> str:
    """In Markdown."""
    lines = [_HEAD, ["---"] * len(_HEAD), *(row.cells() for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def write_table(page: Path, rows: Iterable[Row]) -> None:
    """Replace what is between the marks of *page*; a page without them gets them at its end."""
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    before, _begin, rest = text.partition(BEGIN)
    _old, _end, after = rest.partition(END)
    command = f"make witness SERIES={os.environ.get('SERIES', '')} CYCLES={os.environ.get('CYCLES', '')}"
    found = table(rows)
    body = f"{BEGIN}\n\n`{command}`, in virtual machines that QEMU emulates. {_LEGEND}\n\n{found}\n{END}"
    page.write_text(f"{before}{body}{after or chr(10)}", encoding="utf-8")
    print(f"\n{found}\nwritten to {page}")
