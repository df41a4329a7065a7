# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs in the booted kernel: visitors hammer /proc/kpt_visit while a patch is switched on and off; prints JSON.

Its one argument is JSON: patch, cycles, breaks (the levels that are waited for beyond the cycles: chance decides who is
where in a switch), seconds (when they are up it ends early), thread (a refused switch may have let threads back).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sysfs import put

# WITNESS_SPIN, WITNESS_SLEEP and WITNESS_LINGER of kmod/tests/witness.h, and seconds to rest in user mode.
VISITORS = [(0, 0.001), (0, 0.0), (1, 0.002), (2, 0.03), (4, 0.0), (2 | 4, 0.01), (1 | 4, 0.005)]
PATCHES = Path("/sys/kernel/kpatch/patches")
JUDGE = Path("/proc/kpt_judge")


def visit(pauses: int, rest: float) -> None:
    """Visit for good."""
    file = os.open("/proc/kpt_visit", os.O_RDONLY)
    while True:
        os.pread(file, 1, pauses)
        time.sleep(rest) if rest else os.sched_yield()


def visitor(pauses: int, rest: float) -> int:
    """A process that visits; its pid."""
    pid = os.fork()
    if pid == 0:
        visit(pauses, rest)
    return pid


class Controller:
    """Switches one patch and keeps what that took."""

    def __init__(self, patch: str, thread: bool) -> None:
        self.directory = PATCHES / patch
        self.thread = thread
        self.windows: list[int] = []
        self.times: list[int] = []
        self.refused: list[str] = []

    def switch(self, value: int) -> bool:
        """Enable or disable; False if it was refused."""
        put(JUDGE, "switch")
        begin = time.monotonic_ns()
        try:
            put(self.directory / "enabled", str(value))
        except OSError as error:
            self.refused.append(f"{error.strerror}: {(PATCHES.parent / 'refusal').read_text().strip()}")
            put(JUDGE, "retreat" if self.thread else "switch")
            return False
        self.times.append(time.monotonic_ns() - begin)
        self.windows.append(int((self.directory / "window_ns").read_text()))
        return True

    def settle(self, value: int) -> None:
        """Enable or disable, however often it takes; everybody gets to run what is there now."""
        while not self.switch(value):
            time.sleep(0.01)
        time.sleep(0.02)

    def cycles(self, count: int, seconds: float, unseen: Callable[[], bool]) -> None:
        """Off and on, *count* times and while something is *unseen*, at most *seconds*; in the end it is off."""
        end = time.monotonic() + seconds
        self.settle(0)
        done = 1
        while (done < count or unseen()) and time.monotonic() < end:
            self.settle(1)
            self.settle(0)
            done += 1


def counters() -> dict[str, int]:
    """What the judge has counted."""
    return {name: int(value) for name, value in (line.split() for line in JUDGE.read_text().splitlines())}


def seen_since(before: dict[str, int]) -> dict[str, int]:
    """What the judge has counted since *before*."""
    return {name: value - before[name] for name, value in counters().items()}


def main() -> None:
    """Hammer, switch, tell."""
    asked: dict[str, Any] = json.loads(sys.argv[1])
    controller = Controller(asked["patch"], asked["thread"])
    before = counters()

    def unseen() -> bool:
        seen = seen_since(before)
        return any(seen[level] == 0 for level in asked["breaks"])

    children = [visitor(*kind) for kind in VISITORS]
    try:
        controller.cycles(asked["cycles"], asked["seconds"], unseen)
    finally:
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in children:
            os.waitpid(pid, 0)
    lists = {"windows": controller.windows, "times": controller.times, "refused": controller.refused}
    print(json.dumps({**seen_since(before), **lists}))


if __name__ == "__main__":
    main()
