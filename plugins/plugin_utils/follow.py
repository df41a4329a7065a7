# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows what a module says while it is still at work: it writes lines to a file there, which is read meanwhile.

Ansible itself hands over what a module has said only with its result, which for a kernel's first build takes minutes.
"""

from __future__ import annotations

import copy
import shlex
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ansible.errors import AnsibleError

_SECONDS = 1.0


@contextmanager
def following(connection: Any, path: str, show: Callable[[str], None], seconds: float = _SECONDS) -> Iterator[None]:
    """Hand each line that appears in the file *path*, on the machine of *connection*, to *show*, until the end."""
    ended = threading.Event()
    # The module's own command keeps the connection busy; each command has a process of its own, over a copy, too.
    follower = _Follower(copy.copy(connection), path, show)
    thread = threading.Thread(target=follower.run, args=(ended, seconds), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        follower.read()


class _Follower:
    """How many lines were shown, and how to get the others."""

    def __init__(self, connection: Any, path: str, show: Callable[[str], None]) -> None:
        self._connection, self._path, self._show = connection, path, show
        self._shown = 0

    def run(self, ended: threading.Event, seconds: float) -> None:
        """Look every so many *seconds*."""
        while not ended.wait(seconds):
            self.read()

    def read(self) -> None:
        """Show what is new. A connection that fails fails the module, too, and is told there."""
        command = f"tail -n +{self._shown + 1} {shlex.quote(self._path)} 2>/dev/null"
        try:
            status, output, _errors = self._connection.exec_command(command)
        except (AnsibleError, OSError):
            return
        # A line that is being written has no end yet: it comes whole the next time.
        lines = [line for line in output.decode(errors="replace").splitlines(keepends=True) if line.endswith("\n")]
        if status == 0:
            self._shown += len(lines)
            for line in lines:
                self._show(line.rstrip())
