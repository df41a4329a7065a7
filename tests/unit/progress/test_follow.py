# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A build of minutes is seen at each step, not at its end; a builder that says nothing yet hurts nobody."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from ansible_collections.kpatch.fleet.plugins.plugin_utils.follow import following


class Local:
    """A connection to this machine."""

    def exec_command(self, command: str) -> tuple[int, bytes, bytes]:
        done = subprocess.run(command, shell=True, capture_output=True, check=False)
        return done.returncode, done.stdout, done.stderr


class Cut:
    """A connection that fails."""

    def exec_command(self, command: str) -> tuple[int, bytes, bytes]:
        raise OSError(command)


def wait(seen: list[str], count: int) -> None:
    deadline = time.monotonic() + 10
    while len(seen) < count:
        assert time.monotonic() < deadline, seen
        time.sleep(0.01)


def test_lines_are_shown_as_they_are_written_each_once_and_whole(tmp_path: Path) -> None:
    seen: list[str] = []
    path = tmp_path / "it's here"
    with following(Local(), str(path), seen.append, 0.01), path.open("w") as stream:
        stream.write("unpacking\ncomp")
        stream.flush()
        wait(seen, 1)
        assert seen == ["unpacking"]
        stream.write("iling\n")
        stream.flush()
        wait(seen, 2)
        stream.write("linking\n")
    assert seen == ["unpacking", "compiling", "linking"]


def test_no_file_and_no_connection_show_nothing(tmp_path: Path) -> None:
    for connection in (Local(), Cut()):
        seen: list[str] = []
        with following(connection, str(tmp_path / "missing"), seen.append, 0.01):
            time.sleep(0.05)
        assert seen == []
