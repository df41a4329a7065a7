# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which C files may use what differs in a header: those in which its names are written, or theirs who use it.

A header of the network's is included by a thousand files, and a function in it called by ten. To ask the preprocessor
takes half a second for each; that a name is nowhere is seen at once. A macro, a function or a struct that mentions
what differs counts as differing, too; what is not understood counts as used by all that may include it.

Relied on is what kernels are like: of a name that is put together of a macro's arguments alone, by ##, a part with an
underscore at its end or beginning is written somewhere, or all of it in the directory of the macro; no argument is an
underscore alone; and what has no underscore where it is joined is joined at once, not by one macro after the other.
"""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from ansible_collections.kpatch.fleet.plugins.module_utils.build.includes import Includes
from ansible_collections.kpatch.fleet.plugins.module_utils.build.outline import differing, names, outline
from ansible_collections.kpatch.fleet.plugins.module_utils.build.source_patch import read_text
from ansible_collections.kpatch.fleet.plugins.module_utils.build.tree import Tree

_DEFINED = re.compile(r"#\s*define\s+(\w+)(?:\(([^)]*)\))?")
_PASTED = re.compile(r"\w+(?:\s*##\s*\w+)+")
_PASTES = re.compile(rb"##")
_WORD_BEFORE = re.compile(rb"(\w+)(?:\s|\\\n)*$")
_WORD_BEHIND = re.compile(rb"(?:\s|\\\n)*(\w+)")
_LONGEST = 60  # of the words beside ##, with the space between
_LETTERS = re.compile(r"[A-Za-z0-9]\w|\w[A-Za-z0-9]")
_IN_A_WORD = frozenset(b"_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
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
            mentions, self._fresh = _Mentions(self._fresh, scope), set()
            left -= len(mentions.words) * len(scope)
            if left < 0:
                return self._files
            written = {path: mentions.written(place.read_bytes(), self._own(path)) for path, place in scope.items()}
            mentions.settle(written)
            for path, words in written.items():
                if mentions.count(words) and not self._understood(path, scope[path], mentions):
                    del scope[path]
                    self.reach(path)
        return self._files & self._reached

    def _scope(self) -> dict[str, Path]:
        """All files that the files may include, and they themselves; what kbuild generates among it."""
        paths = self._files | self._includes.included(self._files)
        places = {path: self._tree.source / path for path in paths}
        places.update((str(place), place) for place in self._tree.objects.rglob("*.h"))
        return {path: place for path, place in places.items() if place.is_file()}

    def _understood(self, path: str, place: Path, mentions: _Mentions) -> bool:
        """Whether what mentions a name in a file, if anything does, has names itself, which are looked for then."""
        if path not in self._outlines:
            found = outline(read_text(place))
            if found is None:
                return False
            self._outlines[path] = found
        arguments = self._arguments(path, mentions)
        mentioning = [piece for piece in self._outlines[path] if mentions.are_in(piece, arguments)]
        return self.declare(mentioning)

    def _own(self, path: str) -> bool:
        """Whether macros in a file may put together names of arguments alone, with underscores between.

        P4_ESCR_EMASK_BIT() of x86's perf_event_p4.h does with the names there, and __SYS_STUB0() with those of system
        calls.
        """
        return path in self._changed or not path.startswith(_COMMON)

    def _arguments(self, path: str, mentions: _Mentions) -> set[str]:
        """What the macros of a file may put together names of, if it is of arguments alone."""
        if path in self._changed:
            return mentions.anywhere
        return mentions.beside[posixpath.dirname(path)] if self._own(path) else set()


class _Mentions:
    """Knows where some names are written, or may be put together."""

    def __init__(self, given: set[str], scope: Mapping[str, Path]) -> None:
        self._names, self._scope = given, scope
        self.words = {*given, *(part for name in given for part in self._parts(name))}
        self.anywhere: set[str] = set()
        self.beside: dict[str, set[str]] = defaultdict(set)  # by directory
        self._counting: set[str] = set()
        self._word = re.compile("")

    def _parts(self, name: str) -> Iterator[str]:
        """What a macro may put a name together of: of dst_dev it is dst_ and dev, or dst and _dev."""
        cuts = [0, *_cuts(name), len(name)]
        found = (name[start:end] for start in cuts for end in cuts if start < end)
        return (part for part in found if part != name and part.strip("_"))

    def written(self, text: bytes, own: bool) -> set[str]:
        """The names, and parts of them, that the text of a file has as words or may put together, if *own* of arguments
        alone.
        """
        found = {word for word in self.words if _has_word(text, word.encode())}
        pasted = {word for word in _pasted(text) if own or _LETTERS.search(word)}
        return found | {name for word in pasted for name in self._names if word in name}

    def settle(self, written: Mapping[str, set[str]]) -> None:
        """Say what is *written* in all files: a name of which a part is nowhere is not put together."""
        self.anywhere = set().union(*written.values())
        for path, words in written.items():
            self.beside[posixpath.dirname(path)] |= words
        self._counting = self._names | {
            part
            for name in self._names
            if self._put_together(name)
            for part in self._parts(name)
            if part in self.anywhere and "_" in (part[0], part[-1])
        }
        self._word = re.compile("|".join(rf"\b{word}\b" for word in sorted(self._counting)))

    def _put_together(self, name: str) -> bool:
        """Whether a name is one written part after the other."""
        parts = set(self._parts(name)) & self.anywhere
        ends = {0}
        for end in [*_cuts(name), len(name)]:
            if any(name[start:end] in parts for start in ends):
                ends.add(end)
        return len(name) in ends

    def count(self, words: set[str]) -> bool:
        """Whether what was found written in a file is more than parts of what is not put together."""
        return not words.isdisjoint(self._counting)

    def are_in(self, piece: str, given: set[str]) -> bool:
        """Whether a directive or declaration mentions a name, or may put one together; of arguments alone if these are
        among those *given*.
        """
        return any(self._line_is_in(line, given) for line in piece.split("\n"))

    def _line_is_in(self, line: str, given: set[str]) -> bool:
        """Of a line: a directive is one, within a declaration, too."""
        parameters = _parameters(line)
        if not parameters.issuperset(self._word.findall(line)):
            return True
        return any(self._makes(pattern, name, given) for pattern in _patterns(line, parameters) for name in self._names)

    def _makes(self, pattern: list[str | None], name: str, given: set[str]) -> bool:
        """Whether a name is the words of a pattern, and arguments where it has None, in whatever way it is divided."""
        alone = not any(word and word.strip("_") for word in pattern)

        def makes(at: int, start: int) -> bool:
            if at == len(pattern):
                return start == len(name)
            word = pattern[at]
            if word is not None:
                return name.startswith(word, start) and makes(at + 1, start + len(word))
            return any(
                makes(at + 1, end) and (end == start or self._is_argument(name[start:end], alone, given))
                for end in range(start, len(name) + 1)
            )

        return makes(0, 0)

    def _is_argument(self, word: str, alone: bool, given: set[str]) -> bool:
        if alone:
            return word in given or not word.strip("_")
        return self._is_written(word) or self._put_together(word)

    def _is_written(self, word: str) -> bool:
        """Whether a part of a name is written anywhere; of parts that begin within a word nobody knows yet."""
        if word not in self.words and any(_has_word(file.read_bytes(), word.encode()) for file in self._scope.values()):
            self.anywhere.add(word)
        self.words.add(word)
        return word in self.anywhere


def _cuts(name: str) -> list[int]:
    """Before and behind its underscores."""
    return [at for at in range(1, len(name)) if "_" in name[at - 1 : at + 1]]


def _has_word(text: bytes, word: bytes) -> bool:
    at = text.find(word)
    while at >= 0:
        end = at + len(word)
        if (not at or text[at - 1] not in _IN_A_WORD) and (end == len(text) or text[end] not in _IN_A_WORD):
            return True
        at = text.find(word, end)
    return False


def _pasted(text: bytes) -> set[str]:
    """The words beside ## that may be part of a name."""
    found = set()
    for paste in _PASTES.finditer(text):
        before = _WORD_BEFORE.search(text, max(0, paste.start() - _LONGEST), paste.start())
        behind = _WORD_BEHIND.match(text, paste.end(), paste.end() + _LONGEST)
        found |= {word[1].decode("ascii", "replace") for word in (before, behind) if word}
    return found


def _parameters(piece: str) -> set[str]:
    """A macro's, which are nothing but what it is called with."""
    found = _DEFINED.match(piece)
    return {"__VA_ARGS__", "__VA_OPT__", *(name.strip(" .") for name in ((found and found[2]) or "").split(","))}


def _patterns(piece: str, parameters: set[str]) -> Iterator[list[str | None]]:
    """What the names look like that a macro puts together of its arguments, which are None, and what is written."""
    for pasted in _PASTED.findall(piece) if "##" in piece else ():
        words = [part.strip() for part in pasted.split("##")]
        if not parameters.issuperset(words):
            yield [None if part in parameters else part for part in words]
