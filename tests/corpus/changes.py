# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a stable update changes: the kernel of the older version, prepared, and the files that differ, as diffs."""

from __future__ import annotations

import difflib
import filecmp
import os
import posixpath
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ansible_collections.kpatch.fleet.plugins.module_utils.archive import open_archive
from ansible_collections.kpatch.fleet.plugins.module_utils.build import debian, makefiles
from ansible_collections.kpatch.fleet.plugins.module_utils.build.identity import Identity
from ansible_collections.kpatch.fleet.plugins.module_utils.build.source_patch import read_text
from ansible_collections.kpatch.fleet.plugins.module_utils.build.tree import Tree, build_id, using

FLAVOUR = "cloud-amd64"
_PROGRAMS = ("tools/", "scripts/", "samples/", "usr/")
_SUFFIXES = (".c", ".h", ".inc")
_BANNER = re.compile(rb"Linux version [^\0\n]*? (#[0-9]+ [^\0\n]*Debian [^\0\n]*\))")


class Update(NamedTuple):
    """What is in the newer source and not so in the older one: C files and what they include, by path."""

    older: Path
    newer: Path
    changed: frozenset[str]

    @classmethod
    def between(cls, older: Path, newer: Path) -> Update:
        """What differs between two sources."""
        return cls(older, newer, frozenset(path for path in _included(newer) if _differs(older / path, newer / path)))

    def before(self, path: str) -> str | None:
        """A file's text in the older source; None if it is not there."""
        return read_text(self.older / path) if (self.older / path).is_file() else None

    def after(self, path: str) -> str:
        """A file's text in the newer source."""
        return read_text(self.newer / path)

    def diff(self, paths: Iterable[str]) -> str:
        """What changes in some files, as one diff."""
        return "".join(self._diff(path) for path in sorted(paths))

    def _diff(self, path: str) -> str:
        before = self.before(path)
        name = "/dev/null" if before is None else f"a/{path}"
        lines = difflib.unified_diff(_lines(before or ""), _lines(self.after(path)), name, f"b/{path}")
        return "".join(lines)


def kernel(cache: Path, version: str) -> debian.DebianKernel:
    """The kernel that the source package of *version* was built into."""
    return debian.shipped(version, FLAVOUR, open_archive(cache, debian.suite_of(version)))


def prepared(cache: Path, version: str) -> tuple[Identity, Tree]:
    """That kernel as it would present itself if it ran, and its prepared tree."""
    found = kernel(cache, version)
    packages = debian.Unpacker(found, cache / "downloads", open_archive(cache, found.suite))
    packages.fetch()
    with tempfile.TemporaryDirectory(prefix="kpatch-corpus-") as scratch:
        vmlinux = Path(scratch, "vmlinux")
        packages.vmlinux(vmlinux)
        banner = _BANNER.search(vmlinux.read_bytes())
        if banner is None:
            raise SystemExit(f"kernel {found.release}: its vmlinux has no banner")
        identity = Identity(found.release, banner[1].decode(), build_id(vmlinux))
    with using(cache, identity, print) as tree:
        return identity, tree


def newer_source(cache: Path, version: str) -> Path:
    """The unpacked source of *version*."""
    place = cache / "corpus" / version / "source"
    if not place.is_dir():
        print(f"unpacking the source of {version}", flush=True)
        suite = debian.suite_of(version)
        archive, series = open_archive(cache, suite), ".".join(version.split(".")[:2])
        packages = debian.Unpacker(debian.DebianKernel("", version, series), cache / "downloads", archive)
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent, prefix=".unpacking-") as scratch:
            packages.source(Path(scratch, "source"))
            Path(scratch, "source").rename(place)
    return place


def c_files(tree: Tree, update: Update) -> tuple[list[str], int]:
    """The changed C files that the kernel is built of, and how many others there are that it is not built of."""
    built = makefiles.built(tree, print)
    found = sorted(path for path in update.changed if path.endswith(".c") and (update.older / path).is_file())
    mine = [path for path in found if path in built]
    return mine, len(found) - len(mine)


def spread(found: list[str]) -> list[str]:
    """The same in an order of which each beginning is spread over all: by the reversed bits of their numbers."""
    width = max(len(found) - 1, 1).bit_length()
    return [found[number] for number in sorted(range(len(found)), key=lambda number: f"{number:0{width}b}"[::-1])]


def _included(source: Path) -> Iterable[str]:
    for directory, _subdirectories, files in os.walk(source):
        below = os.path.relpath(directory, source)
        paths = (posixpath.normpath(f"{below}/{file}") for file in files if file.endswith(_SUFFIXES))
        yield from (path for path in paths if not path.startswith(_PROGRAMS))


def _differs(older: Path, newer: Path) -> bool:
    """A link into another architecture leads nowhere here."""
    return newer.is_file() and not (older.is_file() and filecmp.cmp(older, newer, shallow=False))


def _lines(text: str) -> list[str]:
    """The lines as a diff has them, which says so where the last one does not end."""
    lines = text.splitlines(keepends=True)
    return [line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines]
