# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether anybody could have put something into the store: then nothing in it is to be trusted."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from ansible_collections.kpatch.fleet.plugins.plugin_utils.errors import FleetError


def check(*paths: Path) -> None:
    """FleetError if everybody can write to one of *paths*, or put something else in its place.

    That is so if a directory on the way to it can be written to by everybody: up to the root, and through symbolic
    links. The sticky bit, as of /tmp, keeps others from what is there, if it is not theirs.
    """
    for place in dict.fromkeys(passed for path in paths for passed in _passed(path)):
        try:
            found = _open_to_all(place)
        except OSError as error:
            raise FleetError(f"{place}: can't be read: {error.strerror}; build it again") from error
        if found:
            raise FleetError(
                f"{found.resolve()}: everybody can write to it, so that anybody could have put an artifact there: take "
                "that right away (chmod -R o-w), and build again"
            )


def _open_to_all(place: Path) -> Path | None:
    """What everybody can write to, and so decide what is found at *place*: the file itself, or its directory."""
    own, directory = place.stat(), place.parent.stat()
    if stat.S_ISREG(own.st_mode) and own.st_mode & stat.S_IWOTH:
        return place
    kept = directory.st_mode & stat.S_ISVTX and place.lstat().st_uid in (0, os.geteuid())
    return place.parent if directory.st_mode & stat.S_IWOTH and not kept else None


def _passed(path: Path) -> Iterator[Path]:
    """Every name that is looked up on the way to *path*, those that symbolic links lead over included."""
    waiting = [path.absolute()]
    while waiting:
        place = waiting.pop()
        yield from (place, *place.parents)
        for link in (one for one in (place, *place.parents) if one.is_symlink()):
            # What lies beyond the link is reached through its target.
            waiting.append(link.parent / link.readlink() / place.relative_to(link))
            break
