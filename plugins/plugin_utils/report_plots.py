# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where things lie in the plots of a report: numbers only, the page's template draws them."""

from __future__ import annotations

import math
import statistics
from datetime import datetime
from typing import Any

# The plots are drawn in these units and scaled by the browser.
WIDTH, LEFT, RIGHT, ROW, TOP = 880, 220, 110, 26, 8
_INNER = WIDTH - LEFT - RIGHT
# What can be seen of a batch, in the order in which it happens.
KINDS = {"change": "changed in", "soak": "watched for", "back": "taken back in"}
# Dots of hosts that took as long lie beside each other, not upon.
_SPREAD = (0, -5, 5)


def timeline(batches: list[dict[str, Any]]) -> dict[str, Any] | None:
    """One row a batch: its change, its soak, and that it was taken back; None if no batch has begun."""
    spans = {batch["number"]: _spans(batch) for batch in batches}
    known = [span for some in spans.values() for span in some]
    if not known:
        return None
    start = min(begin for _kind, begin, _end in known)
    unit, seconds = _unit(max((end - start).total_seconds() for _kind, _begin, end in known))
    scale = _scale(max((end - start).total_seconds() for _kind, _begin, end in known) / seconds)
    rows = [_row(batch, spans[batch["number"]], start, scale * seconds, place) for place, batch in enumerate(batches)]
    kinds = [kind for kind in KINDS if any(kind == one for one, _begin, _end in known)]
    return {**_frame(len(rows), scale), "rows": rows, "kinds": kinds, "unit": unit, "start": start.isoformat()}


def strips(groups: dict[str, list[tuple[str, float]]]) -> dict[str, Any] | None:
    """One row a group, one dot a value with its name; None if there is no value."""
    filled = {label: values for label, values in groups.items() if values}
    if not filled:
        return None
    scale = _scale(max(value for values in filled.values() for _name, value in values))
    rows = [_strip(label, values, scale, place) for place, (label, values) in enumerate(sorted(filled.items()))]
    return {**_frame(len(rows), scale), "rows": rows}


def _spans(batch: dict[str, Any]) -> list[tuple[str, datetime, datetime]]:
    """What happened to a batch one after another, with begin and end."""
    if not batch["begin"]:
        return []
    marks = [datetime.fromisoformat(batch[key]) for key in ("begin", "end", "judged", "undone") if batch[key]]
    kinds = ["change", *(["soak"] if batch["judged"] else []), *(["back"] if batch["undone"] else [])]
    spans = zip(kinds, marks, marks[1:])
    return [(kind, begin, end) for kind, begin, end in spans if kind == "change" or end > begin]


def _row(batch: dict[str, Any], spans: Any, start: datetime, scale: float, place: int) -> dict[str, Any]:
    bars = []
    for kind, begin, end in spans:
        left, right = (_x((when - start).total_seconds(), scale) for when in (begin, end))
        told = f"{KINDS[kind]} {(end - begin).total_seconds():.1f} s"
        bars.append({"kind": kind, "x": left, "width": max(round(right - left, 1), 2.0), "told": told})
    return {"label": f"batch {batch['number']}", "y": _y(place), "batch": batch, "bars": bars}


def _unit(seconds: float) -> tuple[str, int]:
    """The unit of an axis that is so many *seconds* long, and how many seconds it has."""
    return ("h", 3600) if seconds > 3 * 3600 else ("min", 60) if seconds > 300 else ("s", 1)


def _strip(label: str, values: list[tuple[str, float]], scale: float, place: int) -> dict[str, Any]:
    ordered = sorted(values, key=lambda pair: pair[1])
    middle = round(statistics.median(value for _name, value in ordered), 3)
    dots = [
        {"x": _x(value, scale), "y": _y(place) + ROW // 2 + _SPREAD[at % len(_SPREAD)], "name": name, "value": value}
        for at, (name, value) in enumerate(ordered)
    ]
    return {"label": label, "y": _y(place), "dots": dots, "median": _x(middle, scale), "middle": middle}


def _frame(rows: int, scale: float) -> dict[str, Any]:
    height = TOP + rows * ROW
    step = _step(scale)
    marks = [round(step * mark, 9) for mark in range(round(scale / step) + 1)]
    ticks = [{"x": _x(mark, scale), "text": f"{mark:g}"} for mark in marks]
    return {
        "width": WIDTH,
        "height": height + 30,
        "axis": height,
        "left": LEFT,
        "right": WIDTH - RIGHT + 12,
        "row": ROW,
        "ticks": ticks,
    }


def _scale(largest: float) -> float:
    """The end of the axis: the first mark that is not below *largest*."""
    step = _step(largest)
    return math.ceil(round(largest / step, 9)) * step if largest > 0 else 1.0


def _step(largest: float) -> float:
    """What lies between two marks of an axis of up to six: a round number."""
    if largest <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(largest / 6))
    return float(next(step * power for step in (1, 2, 2.5, 5, 10) if step * power * 6 >= largest))


def _x(value: float, scale: float) -> float:
    return round(LEFT + _INNER * value / scale, 1)


def _y(place: int) -> int:
    return TOP + place * ROW
