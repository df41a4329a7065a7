# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where names are written in source files, or may be put together there by ##.

Relied on is what kernels are like: of a name that is put together of a macro's arguments alone, by ##, a part with an
underscore at its end or beginning is written somewhere, or all of it in the directory of the macro; no argument is an
underscore alone; and what has no underscore where it is joined is joined at once, not by one macro after the other.
"""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

_DEFINED = re.compile(r"#\s*define\s+(\w+)(?:\(([^)]*)\))?")
_PASTED = re.compile(r"\w+(?:\s*##\s*\w+)+")
_PASTES = re.compile(rb"##")
_WORD_BEFORE = re.compile(rb"(\w+)(?:\s|\\\n)*$")
_WORD_BEHIND = re.compile(rb"(?:\s|\\\n)*(\w+)")
_LONGEST = 60  # of the words beside ##, with the space between
_LETTERS = re.compile(r"[A-Za-z0-9]\w|\w[A-Za-z0-9]")
_IN_A_WORD = frozenset(b"_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


class Spelling:
    """How some names are spelled in the files *scope*, by path."""

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
