# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps what a host had before a change: files, and what the kernel said, in a directory that is there whole or not.

UPGRADE is there while a set is replaced: whoever finds it makes the set whole. FORMER is what was before the last
change, for whoever takes that back. One becomes the other by rename.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from ansible_collections.kpatch.fleet.plugins.module_utils.host.errors import HostError, from_oserror
from ansible_collections.kpatch.fleet.plugins.module_utils.host.files import read_text
from ansible_collections.kpatch.fleet.plugins.module_utils.host.staging import ENABLED, Staging, fsync_directory

UPGRADE, FORMER = "upgrade", "former"
# Tells the rest; written last, removed first.
_TOLD = "set.json"


class Kept:
    """What is kept under *name*, beside what *staging* has staged."""

    def __init__(self, staging: Staging, name: str) -> None:
        self.staging = staging
        self.path = staging.directory / name

    def save(self, modules: list[str], told: dict[str, Any]) -> None:
        """Keep the staged files of *modules*, what is to be on at a boot, and what is *told* of it all."""
        self.staging.check_room(0)
        self.staging.prepare()
        new = self.path.with_suffix(".new")
        shutil.rmtree(new, ignore_errors=True)
        try:
            new.mkdir(mode=0o700)
            for file in self._files(modules):
                if file.exists():
                    os.link(file, new / file.name)
            with (new / _TOLD).open("w", encoding="utf-8") as stream:
                json.dump({**told, "modules": modules}, stream)
                stream.flush()
                os.fsync(stream.fileno())
            fsync_directory(new)
            self._remove()
            new.replace(self.path)
            fsync_directory(self.staging.directory)
        except OSError as error:
            shutil.rmtree(new, ignore_errors=True)
            self.staging.tidy()
            raise from_oserror("keep what is there now", error, str(self.path)) from error

    def read(self) -> dict[str, Any] | None:
        """What `save` was told, and its 'modules'; None if nothing is kept. Only root can tell."""
        path = self.path / _TOLD
        try:
            told = json.loads(read_text(path) or "null")
        except ValueError as error:
            mend = f"remove {self.path} and roll out again"
            raise HostError("bad-manifest", f"{path}: can't be read: {error}; {mend}") from error
        return told if isinstance(told, dict) else None

    def restore(self, modules: list[str]) -> None:
        """Make the staged files of *modules* those that are kept; those that there were not are removed.

        They stay kept: this may be cut off, and done again.
        """
        try:
            for file in self._files(modules):
                kept = self.path / file.name
                if not kept.exists():
                    file.unlink(missing_ok=True)
                    continue
                link = file.with_name(f".{file.name}.back")
                link.unlink(missing_ok=True)
                os.link(kept, link)
                link.replace(file)
                link.unlink(missing_ok=True)  # rename(2) does nothing if both names are of one file
        except OSError as error:
            raise from_oserror("put the staged artifacts back", error) from error

    def become(self, name: str) -> None:
        """Keep it under another *name* from now on, in place of what was there."""
        other = Kept(self.staging, name)
        try:
            other._remove()
            self.path.replace(other.path)
            fsync_directory(self.staging.directory)
        except OSError as error:
            raise from_oserror("give what is kept another name", error, str(self.path)) from error

    def forget(self) -> None:
        """Nothing is kept any more."""
        if not self.path.exists():
            return
        try:
            self._remove()
        except OSError as error:
            raise from_oserror("remove it", error, str(self.path)) from error
        self.staging.tidy()

    def _remove(self) -> None:
        (self.path / _TOLD).unlink(missing_ok=True)
        if self.path.exists():
            shutil.rmtree(self.path)

    def _files(self, modules: list[str]) -> list[Path]:
        names = [f"{module}{suffix}" for module in modules for suffix in (".json", ".sig", ".ko")]
        return [self.staging.directory / name for name in (*names, ENABLED)]
