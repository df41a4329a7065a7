# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lab's parts share: the error that operators read, commands, locks and files that appear whole."""

# run_command(), which pylint would have, is AnsibleModule's; this runs without one, too.
# pylint: disable=ansible-bad-function
from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
_TAIL_LINES = 12


class LabError(Exception):
    """Something in the lab failed; the text names it, its log and the mend."""


def check_name(what: str, name: Any) -> str:
    """Return *name* if it may name a lab or a VM: it becomes a directory, a host name and part of a command."""
    if isinstance(name, str) and _NAME.fullmatch(name):
        return name
    raise LabError(f"{name!r} can't be {what}: use 1 to 31 lower-case letters, digits and '-', beginning with a letter")


def run(argv: Sequence[str], mend: str, timeout: float | None = None, stdin: str = "") -> str:
    """Run *argv* to its end and return what it printed, or raise LabError with its last lines and the mend."""
    if shutil.which(argv[0]) is None:
        raise LabError(f"'{argv[0]}' is not installed; {mend}")
    try:
        # LC_ALL=C: messages are parsed and shown, whatever the operator's language is.
        result = subprocess.run(
            argv,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
    except subprocess.TimeoutExpired as error:
        raise LabError(f"'{argv[0]}' did not end within {timeout} s; {mend}") from error
    if result.returncode != 0:
        raise LabError(f"'{argv[0]}' failed (exit code {result.returncode}): {tail(result.stderr)}; {mend}")
    return result.stdout


def tail(text: str) -> str:
    """The last lines of *text*, for an error message."""
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    return "\n".join(lines[-_TAIL_LINES:]) or "it printed nothing"


def digest(inputs: Any) -> str:
    """A short name for *inputs* (anything JSON can hold): equal inputs, equal name."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]


def write_whole(path: Path, text: str, mode: int = 0o644) -> None:
    """Write *text* so that a reader sees the old file or the new one, never a part."""
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    # Nobody gets to see it with another mode, not even for a moment.
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as stream:
        stream.write(text)
    new.rename(path)


def read_json(path: Path) -> Any:
    """The JSON in *path*, or None if there is no such file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise LabError(f"{path}: is damaged ({error}); remove it and run again") from error


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file *path*; a second run on the same lab or image waits here for the first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


@contextmanager
def published(directory: Path) -> Iterator[Path]:
    """Yield a work directory that becomes *directory* by rename when the block ends well, else vanishes."""
    work = directory.with_name(f".{directory.name}.new")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        yield work
        work.rename(directory)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def need_space(directory: Path, size: int, what: str) -> None:
    """Raise LabError unless *size* bytes are free where *directory* is, or is going to be."""
    there = directory
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    if free < size:
        raise LabError(
            f"{what} needs {size >> 20} MB in {directory}, and only {free >> 20} MB are free; "
            "make room there, or let kpatch_cache name another place"
        )
