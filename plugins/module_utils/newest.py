# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remembers the newest build of each module that a machine has had, so that an older one is not taken for it.

What runs is read from the kernel, never remembered. This is kept because no kernel can tell it: an old artifact with
a valid signature differs from a new one in nothing but its place in time, and who offers it chooses what else is seen.
A manifest's 'serial' is that place: when it was built, in seconds since 1970; 0 if it does not say.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

Manifest = dict[str, Any]
Newest = dict[str, int]


class NewestError(Exception):
    """What is remembered can't be read or kept; the text names the file and the mend."""


class OlderError(Exception):
    """An artifact is older than one that was here before; the text names both and the mend."""


def check(newest: Newest, manifest: Manifest, mend: str) -> None:
    """Raise OlderError if *manifest* is older than what *newest* holds for its module and kernel."""
    serial, seen = serial_of(manifest), newest.get(_key(manifest), 0)
    if serial < seen:
        raise OlderError(
            f"{manifest['module']} for {manifest['kernel']['release']} was built {_date(serial)}, but one that was "
            f"built {_date(seen)} has been here before: an older build is not taken for a newer one; {mend}"
        )


def with_seen(newest: Newest, manifests: Iterable[Manifest]) -> Newest:
    """*newest* with the builds of *manifests*; it never goes back."""
    found = dict(newest)
    for manifest in manifests:
        if serial := serial_of(manifest):
            found[_key(manifest)] = max(serial, found.get(_key(manifest), 0))
    return found


def read(path: Path) -> Newest:
    """What is kept in the file *path*; nothing if it is not there. Raises NewestError if it can't be trusted."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    if not isinstance(kept, dict) or not all(isinstance(value, int) for value in kept.values()):
        raise _unreadable(path, "it is no list of builds")
    return kept


def keep(path: Path, newest: Newest) -> None:
    """Put *newest* into *path*, for its owner only and on disk before this returns."""
    new = path.with_name(f".{path.name}.new")
    try:
        new.unlink(missing_ok=True)
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            json.dump(newest, stream, indent=1, sort_keys=True)
            stream.flush()
            os.fsync(stream.fileno())
        new.replace(path)
    except OSError as error:
        raise NewestError(f"{path}: can't be written: {error.strerror}; mend that and run again") from error


def serial_of(manifest: Manifest) -> int:
    """When it was built, in seconds since 1970; 0 if the manifest does not say."""
    return int(manifest.get("serial") or 0)


def _key(manifest: Manifest) -> str:
    """A build for another kernel has a time of its own."""
    return f"{manifest['kernel']['release']} {manifest['kernel']['build_id']} {manifest['module']}"


def _date(serial: int) -> str:
    if not serial:
        return "at a time that it does not tell"
    return datetime.fromtimestamp(serial, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


def _unreadable(path: Path, why: object) -> NewestError:
    return NewestError(
        f"{path}: can't be read: {why}; without it an old build can't be told from a new one. Look at who changed it, "
        "then remove it to begin anew"
    )
