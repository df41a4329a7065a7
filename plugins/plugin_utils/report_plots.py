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
WIDTH, LEFT, ROW, TOP = 780, 230, 26, 8
_INNER = WIDTH - LEFT - 20
_TICKS = 6


def timeline(batches: list[dict[str, Any]]) -> dict[str, Any] | None:
    """One bar a batch, from its first entry to its last; None if no batch has begun."""
    spans = {batch["number"]: _span(batch) for batch in batches}
    known = [span for span in spans.values() if span]
    if not known:
        return None
    start = min(begin for begin, _end in known)
    scale = _scale(max((end - start).total_seconds() for _begin, end in known))
    rows = [_bar(batch, spans[batch["number"]], start, scale, place) for place, batch in enumerate(batches)]
    return {**_frame(len(rows), scale), "rows": rows, "start": start.isoformat(timespec="seconds")}


def strips(groups: dict[str, list[tuple[str, float]]]) -> dict[str, Any] | None:
    """One row a group, one dot a value with its name; None if there is no value."""
    filled = {label: values for label, values in groups.items() if values}
    if not filled:
        return None
    scale = _scale(max(value for values in filled.values() for _name, value in values))
    rows = [_strip(label, values, scale, place) for place, (label, values) in enumerate(sorted(filled.items()))]
    return {**_frame(len(rows), scale), "rows": rows}


def _span(batch: dict[str, Any]) -> tuple[datetime, datetime] | None:
    if not batch["begin"]:
        return None
    return datetime.fromisoformat(batch["begin"]), datetime.fromisoformat(batch["end"])


def _bar(batch: dict[str, Any], span: Any, start: datetime, scale: float, place: int) -> dict[str, Any]:
    row = {"label": f"batch {batch['number']}", "y": _y(place), "batch": batch, "bar": None}
    if span:
        left, right = (_x((when - start).total_seconds(), scale) for when in span)
        row["bar"] = {"x": left, "width": max(round(right - left, 1), 2.0)}
        row["seconds"] = (span[1] - span[0]).total_seconds()
    return row


def _strip(label: str, values: list[tuple[str, float]], scale: float, place: int) -> dict[str, Any]:
    ordered = sorted(values, key=lambda pair: pair[1])
    middle = round(statistics.median(value for _name, value in ordered), 3)
    dots = [{"x": _x(value, scale), "name": name, "value": value} for name, value in ordered]
    return {"label": label, "y": _y(place), "dots": dots, "median": _x(middle, scale), "middle": middle}


def _frame(rows: int, scale: float) -> dict[str, Any]:
    height = TOP + rows * ROW
    ticks = [
        {"x": _x(scale * step / (_TICKS - 1), scale), "text": f"{scale * step / (_TICKS - 1):g}"}
        for step in range(_TICKS)
    ]
    return {"width": WIDTH, "height": height + 30, "axis": height, "left": LEFT, "row": ROW, "ticks": ticks}


def _scale(largest: float) -> float:
    """The end of the axis: a round number that is not below *largest*."""
    if largest <= 0:
        return 1.0
    power = 10 ** math.floor(math.log10(largest))
    return float(next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= largest))


def _x(value: float, scale: float) -> float:
    return round(LEFT + _INNER * value / scale, 1)


def _y(place: int) -> int:
    return TOP + place * ROW
