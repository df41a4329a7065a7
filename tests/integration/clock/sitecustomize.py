# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the wall clock of a Python jump: by as many seconds as the file CLOCK_JUMP holds now.

libfaketime can't be used for it: it breaks the sleep of Python 3.11, which waits for a time of the monotonic clock.
"""

from __future__ import annotations

import datetime
import os
import time
from pathlib import Path

_FILE = Path(os.environ["CLOCK_JUMP"])
_time, _time_ns = time.time, time.time_ns


def jumped() -> float:
    return float(_FILE.read_text() or 0)


class Jumping(datetime.datetime):
    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> Jumping:
        return cls.fromtimestamp(time.time(), tz)


time.time = lambda: _time() + jumped()
time.time_ns = lambda: _time_ns() + int(jumped() * 1e9)
datetime.datetime = Jumping  # type: ignore[misc]
