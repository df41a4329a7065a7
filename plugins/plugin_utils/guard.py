# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether anybody could have put something into the store: then nothing in it is to be trusted."""

from __future__ import annotations

import stat
from pathlib import Path

from ansible_collections.kpatch.fleet.plugins.plugin_utils.errors import FleetError


def check(path: Path, store: Path) -> None:
    """FleetError if *path*, or a directory on the way to it from *store* on, can be written by everybody."""
    top = store.resolve()
    for place in (path, *path.parents):
        if top not in (place, *place.parents):
            return
        try:
            mode = place.stat().st_mode
        except OSError as error:
            raise FleetError(f"{place}: can't be read: {error.strerror}; build it again") from error
        if mode & stat.S_IWOTH:
            raise FleetError(
                f"{place}: everybody can write to it, so that anybody could have put an artifact there: take that "
                "right away (chmod -R o-w), and build again"
            )
