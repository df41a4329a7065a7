# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the kernel's files are compiled: a view of its source in which some are replaced, added or gone.

All is links, but for the directories on the way to those files.
A file that includes "internal.h" looks for it beside itself, so a replaced file needs its neighbours. Linking
them takes a hundred links, copying the source a gigabyte.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Union

from ansible_collections.kpatch.fleet.plugins.module_utils.build.source_patch import write_text

Texts = Mapping[str, Union[str, None]]
SOURCE = "source"


def workplace(source: Path, objects: Path, place: Path, replaced: Texts) -> None:
    """Make *place* a directory to compile in: all that is in *objects*, and a view of *source* below ``source/``.

    There every file has a path that begins with ``source/``, on any machine, in any cache, patched or not. Compilers
    write paths into what they make that -fmacro-prefix-map does not reach: UBSAN's records of where an array is
    indexed hold the source's.
    """
    make(objects, place, {})
    (place / SOURCE).unlink(missing_ok=True)  # kbuild's own link to the source
    make(source, place / SOURCE, replaced)


def make(source: Path, overlay: Path, replaced: Texts) -> None:
    """Make *overlay* look like *source*, but for the *replaced* texts, by path below *source*; None takes one away."""
    _directory(source, overlay, {tuple(path.split("/")): text for path, text in replaced.items()})


def _directory(source: Path, overlay: Path, replaced: dict[tuple[str, ...], str | None]) -> None:
    overlay.mkdir()
    below: dict[str, dict[tuple[str, ...], str | None]] = {}
    for parts, text in replaced.items():
        below.setdefault(parts[0], {})[parts[1:]] = text
    present = {entry.name for entry in source.iterdir()} if source.is_dir() else set()
    for name in sorted(present | below.keys()):
        inner = below.get(name)
        if inner is None:
            (overlay / name).symlink_to(source / name)
        elif () not in inner:
            _directory(source / name, overlay / name, inner)
        elif (text := inner[()]) is not None:
            write_text(overlay / name, text)
