# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Windows in which no batch begins: times of day in UTC, on some days of the week or on all; they may wrap midnight."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ansible_collections.kpatch.fleet.plugins.plugin_utils.errors import FleetError

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WINDOW = re.compile(r"(?:([A-Za-z]{3}(?:,[A-Za-z]{3})*) )?([0-9]{2}):([0-9]{2})-([0-9]{2}):([0-9]{2})")
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Window:
    """From *begin* to *end*, both since midnight, on the *days* (0 is Monday) on which it begins."""

    begin: timedelta
    end: timedelta
    days: tuple[int, ...]

    def until(self, now: datetime) -> datetime | None:
        """When the window that *now* is in ends, or None if it is in none."""
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        for day in (midnight, midnight - _DAY):
            begin, end = day + self.begin, day + self.end
            if day.weekday() in self.days and begin <= now < end:
                return end
        return None


def parse(text: Any) -> Window:
    """'22:00-04:00' or 'fri,sat 22:00-04:00'; FleetError if *text* is neither."""
    found = _WINDOW.fullmatch(text.strip()) if isinstance(text, str) else None
    if found is None:
        raise _refusal(text)
    begin, end = (_time(text, found.group(at), found.group(at + 1)) for at in (2, 4))
    names = (found.group(1) or ",".join(_DAYS)).lower().split(",")
    if begin == end or not set(names) <= set(_DAYS):
        raise _refusal(text)
    # One that ends before it begins wraps midnight: its end is on the next day.
    return Window(begin, end if end > begin else end + _DAY, tuple(_DAYS.index(name) for name in names))


def until(windows: list[str], now: datetime) -> datetime | None:
    """When the last of the *windows* that *now* (in UTC) is in ends, or None if a batch may begin."""
    ends = [end for window in windows if (end := parse(window).until(now))]
    return max(ends) if ends else None


def _time(text: Any, hours: str, minutes: str) -> timedelta:
    if int(hours) * 60 + int(minutes) > 24 * 60 or int(minutes) > 59:
        raise _refusal(text)
    return timedelta(hours=int(hours), minutes=int(minutes))


def _refusal(text: Any) -> FleetError:
    return FleetError(
        f"kpatch_policy: blackout: {text!r} is no window: write '22:00-04:00' or 'fri,sat 22:00-04:00', in UTC"
    )
