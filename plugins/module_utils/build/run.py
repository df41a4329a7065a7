# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the programs that the builder needs, in an environment that does not leak into what they make."""

# run_command(), which pylint would have, is AnsibleModule's; this runs without one, too.
# pylint: disable=ansible-bad-function
from __future__ import annotations

import os
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Union

from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import BuildError, known

Arg = Union[str, Path]
_TAIL = 2000


def clean_environment() -> dict[str, str]:
    """The environment of everything whose output ends up in an artifact."""
    return {"PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), "LC_ALL": "C", "TZ": "UTC"}


class _Budget:
    """How many programs run at once, whoever starts them: builds run side by side, and each compiles side by side."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self.free = threading.BoundedSemaphore(jobs)


_budget = _Budget(max(1, len(os.sched_getaffinity(0))))


def workers() -> int:
    """How many programs to run at once: as many as this machine has processors, or as limited() says."""
    return _budget.jobs


@contextmanager
def limited(jobs: int) -> Iterator[None]:
    """Run no more than *jobs* programs at once meanwhile. Programs that run already are not counted."""
    global _budget
    before, _budget = _budget, _Budget(jobs)
    try:
        yield
    finally:
        _budget = before


def run(argv: Sequence[Arg], cwd: Path | None = None, env: dict[str, str] | None = None, warnings: bool = False) -> str:
    """Run *argv* and return what it printed, with *warnings* also on its error output.

    Raise BuildError with the end of what it said if it fails.
    """
    command = [str(arg) for arg in argv]
    try:
        with _budget.free:
            done = subprocess.run(
                command,
                cwd=cwd,
                env=clean_environment() if env is None else env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                close_fds=False,  # what is held is inherited: waiting.held()
            )
    except FileNotFoundError as error:
        raise BuildError(f"{error.filename}: not found; install it on the builder (the builder role does)") from error
    if done.returncode != 0:
        said = done.stderr.strip() or done.stdout.strip()
        failed = BuildError(f"{_short(command)}: failed with status {done.returncode}: {said[-_TAIL:]}")
        failed.said = said
        raise failed
    return done.stdout + done.stderr if warnings else done.stdout


def pipe(producer: Sequence[Arg], consumer: Sequence[Arg]) -> None:
    """Run ``producer | consumer``; the consumer may stop reading once it has what it wants.

    Raise BuildError with the end of what they said if the consumer fails, or if it has read all and the producer fails.
    """
    try:
        # A file takes all that the producer says, with nobody reading meanwhile; a pipe does not.
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
            with subprocess.Popen(
                [str(arg) for arg in producer],
                stdout=subprocess.PIPE,
                stderr=errors,
                close_fds=False,
            ) as first:
                done = subprocess.run(
                    [str(arg) for arg in consumer],
                    stdin=first.stdout,
                    capture_output=True,
                    text=True,
                    check=False,
                    close_fds=False,
                )
                # How a producer ends whose output is not wanted to its end tells nothing: dpkg-deb exits with status 2
                # then, as it does for a damaged package.
                broken_off = bool(known(first.stdout, "it was asked for").read(1))
            errors.seek(0)
            said = "" if broken_off else errors.read()
    except FileNotFoundError as error:
        raise BuildError(f"{error.filename}: not found; install it on the builder (the builder role does)") from error
    if done.returncode != 0 or (first.returncode != 0 and not broken_off):
        said = f"{said}{done.stderr}".strip()
        raise BuildError(f"{_short(producer)} | {_short(consumer)}: failed: {said[-_TAIL:]}")


def _short(command: Sequence[Arg]) -> str:
    """A compile command has a hundred arguments: its name and its last one tell which it was."""
    if len(command) <= 6:
        return " ".join(str(arg) for arg in command)
    return f"{command[0]} … {command[-1]}"
