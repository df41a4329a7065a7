# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A view of the kernel's source in which some files are replaced: links, but for the directories on the way to them.

A file that includes "internal.h" looks for it beside itself, so a replaced file needs its neighbours. Linking
them takes a hundred links, copying the source a gigabyte.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ansible_collections.kpatch.fleet.plugins.module_utils.build.source_patch import write_text


def make(source: Path, overlay: Path, replaced: Mapping[str, str]) -> None:
    """Make *overlay* look like *source*, but for the *replaced* texts, by path below *source*."""
    _directory(source, overlay, {tuple(path.split("/")): text for path, text in replaced.items()})


def _directory(source: Path, overlay: Path, replaced: dict[tuple[str, ...], str]) -> None:
    overlay.mkdir()
    below: dict[str, dict[tuple[str, ...], str]] = {}
    for parts, text in replaced.items():
        below.setdefault(parts[0], {})[parts[1:]] = text
    for entry in sorted(source.iterdir()):
        inner = below.get(entry.name)
        if inner is None:
            (overlay / entry.name).symlink_to(entry)
        elif entry.is_dir():
            _directory(entry, overlay / entry.name, inner)
        else:
            write_text(overlay / entry.name, inner[()])
