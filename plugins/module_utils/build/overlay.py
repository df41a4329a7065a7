# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the kernel's files are compiled: a view of its source in which some are replaced, added or gone.

All is links, but for the directories on the way to those files, and to files that may include them.
A file that includes "internal.h" looks for it beside itself, so a replaced file needs its neighbours; and
fs/iomap/buffered-io.c, which includes "../internal.h", would find the source's behind a link to fs/iomap. Linking
them takes hundreds of links, copying the source a gigabyte.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Union

from ansible_collections.kpatch.fleet.plugins.module_utils.build.source_patch import write_text

Texts = Mapping[str, Union[str, None]]
SOURCE = "source"


def workplace(source: Path, objects: Path, place: Path, replaced: Texts, including: Iterable[str] = ()) -> None:
    """Make *place* a directory to compile in: all that is in *objects*, and a view of *source* below ``source/``.

    There every file has a path that begins with ``source/``, on any machine, in any cache, patched or not. Compilers
    write paths into what they make that -fmacro-prefix-map does not reach: UBSAN's records of where an array is
    indexed hold the source's.
    """
    make(objects, place, {})
    (place / SOURCE).unlink(missing_ok=True)  # kbuild's own link to the source
    make(source, place / SOURCE, replaced, including)


def make(source: Path, overlay: Path, replaced: Texts, including: Iterable[str] = ()) -> None:
    """Make *overlay* look like *source*, but for the *replaced* texts, by path below *source*; None takes one away.

    *including* are the files that may include one of them.
    """
    _View(source, overlay, replaced, including).make(PurePosixPath())


class _View:
    def __init__(self, source: Path, overlay: Path, replaced: Texts, including: Iterable[str]) -> None:
        self._source, self._overlay = source, overlay
        self._texts = {PurePosixPath(path): text for path, text in replaced.items()}
        self._directories = {parent for path in (*replaced, *including) for parent in PurePosixPath(path).parents}
        self._own: dict[PurePosixPath, set[str]] = defaultdict(set)
        for path in (*self._texts, *self._directories - {PurePosixPath()}):
            self._own[path.parent].add(path.name)

    def make(self, directory: PurePosixPath) -> None:
        """Make a directory of the view, and what is in it."""
        (self._overlay / directory).mkdir()
        original = self._source / directory
        present = {entry.name for entry in original.iterdir()} if original.is_dir() else set()
        for name in sorted(present | self._own[directory]):
            path = directory / name
            if path in self._directories:
                self.make(path)
            elif path not in self._texts:
                (self._overlay / path).symlink_to(self._source / path)
            elif (text := self._texts[path]) is not None:
                write_text(self._overlay / path, text)
