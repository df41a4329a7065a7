# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lets one run at a time change a host. The lock ends with the process that holds it, however that ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ansible_collections.kpatch.fleet.plugins.module_utils.host.errors import HostError, from_oserror

# On a file system that is writable even where /var is not, so that a patch can always be switched off.
_FILE = "run/kpatch.fleet.lock"


@contextmanager
def host_lock(root: Path) -> Iterator[None]:
    """Keep other runs off the host meanwhile; HostError 'locked' if one is at work already."""
    path = root / _FILE
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise from_oserror("lock it", error, str(path)) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            message = f"{path}: another run is changing this host; wait for it and run again"
            raise HostError("locked", message) from error
        yield
    finally:
        os.close(handle)
