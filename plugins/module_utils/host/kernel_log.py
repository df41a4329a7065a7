# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what the kernel logs while something is tried: its refusals name the symbol or the version there only."""

from __future__ import annotations

import os
from pathlib import Path

_MAX_RECORDS = 50
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
