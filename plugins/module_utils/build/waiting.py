# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Locks between builders: who has to wait says so."""

from __future__ import annotations

import fcntl
from typing import Callable, TextIO


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
