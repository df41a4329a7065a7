# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a stable update changes: the kernel of the older version, prepared, and each changed C file as a patch."""

from __future__ import annotations

import difflib
import filecmp
import hashlib
import re
import tempfile
from pathlib import Path
from typing import NamedTuple

from ansible_collections.kpatch.fleet.plugins.module_utils.archive import open_archive
from ansible_collections.kpatch.fleet.plugins.module_utils.build import debian, makefiles
from ansible_collections.kpatch.fleet.plugins.module_utils.build.identity import Identity
from ansible_collections.kpatch.fleet.plugins.module_utils.build.source_patch import read_text
from ansible_collections.kpatch.fleet.plugins.module_utils.build.tree import Tree, build_id, using

FLAVOUR = "cloud-amd64"
_PROGRAMS = ("tools/", "scripts/", "samples/", "usr/")
_BANNER = re.compile(rb"Linux version [^\0\n]*? (#[0-9]+ [^\0\n]*Debian [^\0\n]*\))")


class Change(NamedTuple):
    """One file of the update."""

    path: str
    diff: str

    @property
    def name(self) -> str:
        """What its patch is called."""
        return "fix-" + hashlib.sha256(self.path.encode()).hexdigest()[:12]


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


def changes(tree: Tree, newer: Path) -> tuple[list[Change], int]:
    """The changed C files that the kernel is built of, and how many others there are that it is not built of."""
    built = makefiles.built(tree, print)
    found = [path for path in _c_files(tree.source) if _differs(tree.source / path, newer / path)]
    mine = [Change(path, _diff(tree.source, newer, path)) for path in found if path in built]
    return mine, len(found) - len(mine)


def _c_files(source: Path) -> list[str]:
    paths = (str(path.relative_to(source)) for path in source.rglob("*.c"))
    return sorted(path for path in paths if not path.startswith(_PROGRAMS))


def _differs(older: Path, newer: Path) -> bool:
    return newer.is_file() and not filecmp.cmp(older, newer, shallow=False)


def _diff(older: Path, newer: Path, path: str) -> str:
    before, after = (read_text(root / path).splitlines(keepends=True) for root in (older, newer))
    return "".join(difflib.unified_diff(before, after, f"a/{path}", f"b/{path}"))
