# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what the kernel logs: its refusals name the symbol or the version there only, and errors are counted there."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

from ansible_collections.kpatch.fleet.plugins.module_utils.host.errors import from_oserror

_MAX_RECORDS = 50
# syslog(2): what counts as an error, in the three lowest bits of a record's level.
_ERROR = 3
_MAX_RECORD_BYTES = 8192


class KernelLog:
    """The kernel's log from now on; empty where it can't be read, since it only adds words to an error."""

    def __init__(self, root: Path) -> None:
        try:
            self._handle = os.open(root / "dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            os.lseek(self._handle, 0, os.SEEK_END)
        except OSError:
            self._handle = -1

    def __enter__(self) -> KernelLog:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._handle >= 0:
            os.close(self._handle)

    def lines(self) -> list[str]:
        """The messages since the beginning or the last call, without their headers."""
        lines: list[str] = []
        while self._handle >= 0 and len(lines) < _MAX_RECORDS:
            try:
                record = os.read(self._handle, _MAX_RECORD_BYTES)
            except OSError:  # EAGAIN: there is no more; EPIPE: it was overwritten meanwhile
                break
            if not record:
                break
            lines.append(record.decode("utf-8", "replace").partition(";")[2].split("\n", 1)[0])
        return lines


def errors_since(root: Path, seconds: float, pattern: re.Pattern[str]) -> list[str]:
    """The errors, and worse, of the last *seconds* that match *pattern*; HostError if the log can't be read."""
    path = root / "dev/kmsg"
    since = (time.clock_gettime(time.CLOCK_MONOTONIC) - seconds) * 1e6
    found = []
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise from_oserror("read it", error, str(path)) from error
    try:
        for record in _records(handle):
            head, _semicolon, text = record.partition(";")
            level, _number, stamp = (int(field) for field in head.split(",")[:3])
            message = text.split("\n", 1)[0]
            if level & 7 <= _ERROR and stamp >= since and pattern.search(message):
                found.append(message)
    finally:
        os.close(handle)
    return found


def _records(handle: int) -> Iterator[str]:
    """What is in the log now. EPIPE: a record was overwritten meanwhile, and the next one is the oldest left."""
    while True:
        try:
            record = os.read(handle, _MAX_RECORD_BYTES)
        except BrokenPipeError:
            continue
        except OSError:
            return
        if not record:
            return
        yield record.decode("utf-8", "replace")
