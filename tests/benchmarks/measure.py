# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a program and watches what it takes with all that it starts: seconds, processor seconds, memory.

The memory is the proportional set size (Pss in /proc/<pid>/smaps_rollup) of the program and its descendants, summed,
five times a second: pages that they share are counted once. RUSAGE_CHILDREN would tell of the largest process only. A
part that is shorter than a fifth of a second has the samples beside it.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

_INTERVAL = 0.2


class Taken(NamedTuple):
    """What a run has taken; times are of time.monotonic(), which all processes of a machine share."""

    begin: float
    end: float
    cpu_seconds: float
    samples: list[tuple[float, int]]  # when, kB
    status: int = 0  # the program's

    @property
    def seconds(self) -> float:
        """The whole."""
        return self.end - self.begin

    def peak(self, begin: float, end: float) -> float:
        """The most memory in a part of the run, in MB."""
        inside = [size for at, size in self.samples if begin - _INTERVAL <= at <= end + _INTERVAL]
        return max(inside, default=0) / 1024

    @property
    def most(self) -> float:
        """The most memory, in MB."""
        return self.peak(self.begin, self.end)


def watched(
    command: Sequence[str | Path],
    heard: Callable[[str], None],
    env: Mapping[str, str] | None = None,
    looked: Callable[[Taken], None] = lambda _taken: None,
    may_fail: bool = False,
) -> Taken:
    """Run *command*, handing each line that it says to *heard* at once; SystemExit if it fails, unless it *may_fail*.

    *looked* is told now and then what it has taken until then.
    """
    begin = time.monotonic()
    process = subprocess.Popen(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=None if env is None else dict(env),
    )
    samples: list[tuple[float, int]] = []
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(_INTERVAL):
            family = _family(process.pid)
            samples.append((time.monotonic(), sum(map(_pss, family))))
            if len(samples) % 300 == 0:
                looked(Taken(begin, time.monotonic(), sum(map(_cpu, family)), samples))

    watcher = threading.Thread(target=sample)
    watcher.start()
    try:
        assert process.stdout is not None
        for line in process.stdout:
            heard(line.rstrip("\n"))
    finally:
        _pid, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        ended.set()
        watcher.join()
    taken = Taken(begin, time.monotonic(), usage.ru_utime + usage.ru_stime, samples, process.returncode)
    if process.returncode != 0 and not may_fail:
        raise SystemExit(f"{command[0]} … {command[-1]}: failed with status {process.returncode}")
    return taken


def _family(root: int) -> list[psutil.Process]:
    """A process and its descendants; nobody if it is gone."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(root)
        return [process, *process.children(recursive=True)]
    return []


def _pss(process: psutil.Process) -> int:
    """Its memory in kB; none if it is gone."""
    with contextlib.suppress(psutil.Error):
        return int(process.memory_full_info().pss) // 1024
    return 0


def _cpu(process: psutil.Process) -> float:
    """The processor seconds of it and of its children that have ended."""
    with contextlib.suppress(psutil.Error):
        return float(sum(process.cpu_times()[:4]))
    return 0.0


def told(line: str) -> None:
    """Progress."""
    print(line, file=sys.stderr, flush=True)
