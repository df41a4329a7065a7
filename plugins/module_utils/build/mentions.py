# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which C files may use what differs in a header: those in which its names are written, or theirs who use it.

A header of the network's is included by a thousand files, and a function in it called by ten. To ask the preprocessor
takes half a second for each; that a name is nowhere is seen at once. A macro, a function or a struct that mentions
what differs counts as differing, too; what is not understood counts as used by all that may include it.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from ansible_collections.kpatch.fleet.plugins.module_utils.build.includes import Includes
from ansible_collections.kpatch.fleet.plugins.module_utils.build.outline import differing, names, outline
from ansible_collections.kpatch.fleet.plugins.module_utils.build.source_patch import read_text
from ansible_collections.kpatch.fleet.plugins.module_utils.build.spelling import Spelling
from ansible_collections.kpatch.fleet.plugins.module_utils.build.tree import Tree

# Included by all.
_COMMON = ("include/linux/", "include/asm-generic/", "include/uapi/", "arch/x86/include/")
# How many words are looked for in how many files, for each file that is spared the preprocessor if all goes well: a
# twentieth of the time that it would take. What needs more is used by most.
_WORTH = 2_000


def users(tree: Tree, changed: Mapping[str, tuple[str, str]], files: set[str], includes: Includes) -> set[str]:
    """Those of the C files *files* that may use what differs in the files *changed*, by path with both texts."""
    search = _Search(tree, files, includes)
    for path, texts in changed.items():
        change = differing(*texts)
        if change is None or not search.declare(change.differing):
            search.reach(path)
        else:
            search.know(path, change.same)
    return search.users()


class _Search:
    """From names to who mentions them, and on to the names of these."""

    def __init__(self, tree: Tree, files: set[str], includes: Includes) -> None:
        self._tree, self._files, self._includes = tree, files, includes
        self._changed: set[str] = set()
        self._outlines: dict[str, list[str]] = {}
        self._names: set[str] = set()
        self._macros: set[str] = set()  # those of them that are macros'
        self._declared: set[str] = set()  # and the others
        self._fresh: set[str] = set()
        self._reached: set[str] = set()

    def know(self, path: str, same: list[str]) -> None:
        """Take *same* for all that is in the changed file *path* beside what is looked for."""
        self._changed.add(path)
        self._outlines[path] = same

    def reach(self, path: str) -> None:
        """Count all that may include a file as users, and itself."""
        generated = posixpath.isabs(path)  # nobody knows who includes it
        self._reached |= self._files if generated else {path, *self._includes.includers([path])}

    def declare(self, pieces: Iterable[str]) -> bool:
        """Look for the names of *pieces*, too; False if one's are not known."""
        for piece in pieces:
            given = names(piece)
            own, others = (self._macros, self._declared) if piece.startswith("#") else (self._declared, self._macros)
            if given is None or not others.isdisjoint(given):  # a macro renames a declaration, or makes several of it
                return False
            self._fresh |= given - self._names
            self._names |= given
            own |= given
        return True

    def users(self) -> set[str]:
        """Those of the files that mention one of the names, or what does."""
        scope = self._scope()
        left = _WORTH * len(self._files)
        while self._fresh and not self._files <= self._reached:
            spelling, self._fresh = Spelling(self._fresh, scope), set()
            left -= len(spelling.words) * len(scope)
            if left < 0:
                return self._files
            written = {path: spelling.written(place.read_bytes(), self._own(path)) for path, place in scope.items()}
            spelling.settle(written)
            for path, words in written.items():
                if spelling.count(words) and not self._understood(path, scope[path], spelling):
                    del scope[path]
                    self.reach(path)
        return self._files & self._reached

    def _scope(self) -> dict[str, Path]:
        """All files that the files may include, and they themselves; what kbuild generates among it."""
        paths = self._files | self._includes.included(self._files)
        places = {path: self._tree.source / path for path in paths}
        places.update((str(place), place) for place in _generated(self._tree.objects))
        return {path: place for path, place in places.items() if place.is_file()}

    def _understood(self, path: str, place: Path, spelling: Spelling) -> bool:
        """Whether what mentions a name in a file, if anything does, has names itself, which are looked for then."""
        if path not in self._outlines:
            found = outline(read_text(place))
            if found is None:
                return False
            self._outlines[path] = found
        arguments = self._arguments(path, spelling)
        mentioning = [piece for piece in self._outlines[path] if spelling.are_in(piece, arguments)]
        return self.declare(mentioning)

    def _own(self, path: str) -> bool:
        """Whether macros in a file may put together names of arguments alone, with underscores between.

        P4_ESCR_EMASK_BIT() of x86's perf_event_p4.h does with the names there, and __SYS_STUB0() with those of system
        calls.
        """
        return path in self._changed or not path.startswith(_COMMON)

    def _arguments(self, path: str, spelling: Spelling) -> set[str]:
        """What the macros of a file may put together names of, if it is of arguments alone."""
        if path in self._changed:
            return spelling.anywhere
        return spelling.beside[posixpath.dirname(path)] if self._own(path) else set()


def _generated(objects: Path) -> Iterator[Path]:
    """The headers that kbuild has made; not what it tries the compiler with for another build, which comes and goes."""
    for directory, subdirectories, files in os.walk(objects):
        subdirectories[:] = [name for name in subdirectories if not name.startswith(".tmp_")]
        yield from (Path(directory, file) for file in files if file.endswith(".h"))
