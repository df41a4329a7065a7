# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Locks between builders: who has to wait says so."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Callable, TextIO


@contextlib.contextmanager
def held(path: Path, what: str, say: Callable[[str], None], shared: bool = False) -> Iterator[TextIO]:
    """Hold the lock of the file *path*, as lock() does.

    The programs that run meanwhile inherit it, so that it is free once a killed builder and all that it has started
    are gone: its tar may still be unpacking where the next one would clear away.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="ascii") as stream:
        os.set_inheritable(stream.fileno(), True)
        lock(stream, what, say, shared)
        try:
            yield stream
        finally:
            # Closing would not do: what another thread has started meanwhile has the file open, too.
            fcntl.flock(stream, fcntl.LOCK_UN)


def lock(stream: TextIO, what: str, say: Callable[[str], None], shared: bool = False) -> None:
    """Lock the file *stream* for this process alone, or *shared* with others that share it.

    *what*, in words, is what another one may be at work on.
    """
    how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(stream, how | fcntl.LOCK_NB)
    except BlockingIOError:
        say(f"waiting for another builder, which is at work on {what}")
        fcntl.flock(stream, how)
