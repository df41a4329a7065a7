# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the small files in which a kernel tells its state, and brings small files of ours to what they have to hold."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from ansible_collections.kpatch.fleet.plugins.module_utils.host.errors import from_oserror

# A module or a patch may vanish between the listing of its directory and the reading of its files.
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ENODEV)


def read_bytes(path: Path) -> bytes | None:
    """The bytes of *path*, or None if there is no such file."""
    try:
        return path.read_bytes()
    except OSError as error:
        if error.errno in _GONE:
            return None
        raise from_oserror("read it", error, str(path)) from error


def read_text(path: Path) -> str | None:
    """The text of *path* without blanks around it, or None if there is no such file."""
    data = read_bytes(path)
    return None if data is None else data.decode("utf-8", "replace").strip()


def read_int(path: Path) -> int | None:
    """The number in *path*, or None if there is no such file or no number in it."""
    text = read_text(path)
    try:
        return None if text is None else int(text)
    except ValueError:
        return None


def read_flag(path: Path) -> bool:
    """Whether *path* says 1 or Y."""
    return read_text(path) in ("1", "Y", "y")


def subdirectories(path: Path) -> list[str]:
    """The names of the directories in *path*, sorted; none if *path* isn't there."""
    try:
        return sorted(entry.name for entry in path.iterdir() if entry.is_dir())
    except OSError as error:
        if error.errno in _GONE:
            return []
        raise from_oserror("list it", error, str(path)) from error


def bring(path: Path, wanted: bytes | None, mode: int, check: bool) -> bool:
    """Whether *path* had to be changed to hold *wanted*, or not to be there; done by rename, unless *check*."""
    if read_bytes(path) == wanted:
        return False
    if check:
        return True
    if wanted is None:
        path.unlink()
        return True
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(wanted)
    temporary.chmod(mode)
    temporary.replace(path)
    return True
