# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel tests of several series at once, each in a pytest and a lab of its own; arguments go to pytest.

SERIES names the series, with commas; as many run at once as CPUS (of each machine) let the processors carry. Logs are
in .cache/kernel-tests/. The exit code is that of the worst pytest, 130 after an interrupt; machines go away with their
pytest, which is told to stop and waited for.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import FrameType

LOGS = Path(".cache/kernel-tests")
# Seconds between two lines that tell how far everybody is.
EVERY = 60
INTERRUPT = threading.Event()
# What -vv prints of a test that ended, and of the share of tests that did.
_FAILED = re.compile(r"^\S+::.* (?:FAILED|ERROR) .*$", re.MULTILINE)
_PERCENT = re.compile(r"\[ *(\d+)%\]")
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]*")


class Run:
    """The tests of one series, under way from the beginning on."""

    def __init__(self, series: str, arguments: list[str]) -> None:
        self.series = series
        self.log = LOGS / f"{series}.log"
        self.told = 0
        name = series.replace(".", "-")
        lab = f"{os.environ.get('KPATCH_LAB') or 'kernel-tests'}-{name}"
        # A runner that is killed outright can't tell its children to take their machines away.
        command = ["setpriv", "--pdeathsig", "INT", "pytest", "-vv", "-o", f"cache_dir={LOGS}/cache-{name}"]
        with self.log.open("w", encoding="utf-8") as stream:
            self.process = subprocess.Popen(
                [*command, "tests/kernel", *arguments],
                stdout=stream,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "SERIES": series, "KPATCH_LAB": lab},
                # Only the runner hears a terminal's interrupt, and hands on one: a second would end the taking away.
                start_new_session=True,
            )

    def text(self) -> str:
        """What pytest has said until now."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def tell_failures(self) -> None:
        """Print the tests that failed since the last call."""
        failed = _FAILED.findall(self.text())
        for line in failed[self.told :]:
            tell(f"{self.series}: {line}")
        self.told = len(failed)

    def progress(self) -> str:
        """How far it is."""
        shares = _PERCENT.findall(self.text())
        return f"{self.series} {shares[-1] if shares else 0} %" + (f" ({self.told} failed)" if self.told else "")

    def tell_end(self, whole: bool) -> None:
        """Print pytest's closing line, or all that it said if that is wanted or it failed."""
        text = self.text().rstrip()
        if whole or self.process.returncode != 0:
            tell(f"\n== {self.series}: exit code {self.process.returncode}, {self.log}\n{text}")
        else:
            tell(f"{self.series}: {text.splitlines()[-1].strip('= ')}")


def tell(line: str) -> None:
    """To whoever watches, at once."""
    print(line, flush=True)


def interrupted(_number: int, _frame: FrameType | None) -> None:
    """Only noted: an exception could come while a pytest is started, which nobody would then stop."""
    INTERRUPT.set()


def stop(running: list[Run]) -> None:
    """Have every pytest take its machines away, and wait for that."""
    for run in running:
        run.process.send_signal(signal.SIGINT)
    tell(f"interrupted: taking the machines of {', '.join(run.series for run in running)} away")
    for run in running:
        run.process.wait()


def finish(waiting: list[str], at_once: int, arguments: list[str]) -> int:
    """Run all, not more than *at_once* at a time; the worst exit code, or 130 after an interrupt."""
    worst, told = 0, time.monotonic()
    running: list[Run] = []
    while waiting or running:
        while waiting and len(running) < at_once:
            running.append(Run(waiting.pop(0), arguments))
        if INTERRUPT.wait(1):
            stop(running)
            return 130
        for run in running:
            run.tell_failures()
        for run in [run for run in running if run.process.poll() is not None]:
            running.remove(run)
            run.tell_end("-s" in arguments)
            # One that a signal ended has a negative code.
            worst = max(worst, abs(run.process.returncode))
        if running and time.monotonic() - told >= EVERY:
            told = time.monotonic()
            tell(", ".join(run.progress() for run in running))
    return worst


def main() -> int:
    """Run the tests of SERIES."""
    waiting = os.environ["SERIES"].split(",")
    for series in waiting:
        if not _NAME.fullmatch(series) or waiting.count(series) > 1:
            sys.exit(f"error: SERIES is '{os.environ['SERIES']}': it is a list of different series, as 6.1,6.12")
    at_once = max(1, (os.cpu_count() or 1) // int(os.environ.get("CPUS") or 1))
    LOGS.mkdir(parents=True, exist_ok=True)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)
    return finish(waiting, at_once, sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
