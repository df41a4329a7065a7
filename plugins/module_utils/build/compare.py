# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a piece of the patched object file does what the original does.

Two pieces are the same if their bytes are, and if what they refer to is: the same piece, or equal content where
only that counts (strings, constants, the out-of-line parts of alternatives).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from ansible_collections.kpatch.fleet.plugins.module_utils.build import special
from ansible_collections.kpatch.fleet.plugins.module_utils.build.correlate import Correlation, is_copied
from ansible_collections.kpatch.fleet.plugins.module_utils.build.lines import only_lines_differ, without_line
from ansible_collections.kpatch.fleet.plugins.module_utils.build.pieces import Kind, Parts, Piece, Target
from ansible_collections.kpatch.fleet.plugins.module_utils.build.special import DYNAMIC_DEBUG, Entries, Entry

Fingerprint = tuple[Hashable, ...]

_SHOWN = 60  # characters of a string in a reason


class Side:
    """One of the two object files; *common* gives what identifies a piece in both."""

    def __init__(self, parts: Parts, entries: Entries, common: Callable[[Piece], Piece]) -> None:
        self.parts = parts
        self.entries = entries
        self._common = common
        self._known: dict[int, Fingerprint] = {}

    def content(self, piece: Piece) -> Fingerprint:
        """The bytes of a piece and what its relocations mean."""
        if id(piece) not in self._known:
            self._known[id(piece)] = ("within itself",)  # content that refers to itself
            self._known[id(piece)] = (self._bytes(piece), self.references(piece))
        return self._known[id(piece)]

    def references(self, piece: Piece) -> Fingerprint:
        """What the relocations of a piece mean, in order."""
        return tuple(
            (reloc.offset - piece.start, reloc.type, self._meaning(self.parts.target(piece.section, reloc)))
            for reloc in self.parts.relocs(piece)
        )

    def special(self, piece: Piece) -> dict[str, Fingerprint]:
        """What the special sections say of a piece, by section."""
        said: dict[str, Fingerprint] = {}
        for entry in self.entries.of(piece):
            if special.table_of(entry.section.name).compared:
                said[entry.section.name] = (*said.get(entry.section.name, ()), self._entry(entry))
        return said

    def _entry(self, entry: Entry) -> Fingerprint:
        return (
            special.without_line(entry),
            *(self._meaning(self.parts.target(entry.section, reloc)) for reloc in entry.relocs),
        )

    def _bytes(self, piece: Piece) -> bytes:
        """A struct _ddebug holds the line of the message among its bytes; what else matters are its pointers."""
        return b"" if piece.section.name == DYNAMIC_DEBUG else piece.data

    def _meaning(self, target: Target) -> Hashable:
        piece = target.piece
        if piece is None:
            return ("undefined", target.symbol.name, target.offset)
        if piece.kind is Kind.STRING:
            return ("string", without_line(piece.data[max(0, target.offset) :]), target.bias)
        if is_copied(piece):
            return ("content", self.content(piece), target.offset, target.bias)
        entry = self.entries.referred(target)
        if entry is not None:
            return ("entry", entry.section.name, self._entry(entry), target.offset - entry.start, target.bias)
        return ("piece", id(self._common(piece)), target.offset, target.bias)


class Comparison:
    """Both sides; *lines_move* if __LINE__ may be another one in the patched file."""

    def __init__(self, original: Side, patched: Side, lines_move: bool) -> None:
        self._original, self._patched = original, patched
        self._lines_move = lines_move
        self.moved: list[str] = []  # the functions that only pass on other line numbers

    def function(self, original: Piece, patched: Piece) -> str | None:
        """What changed in a function; None if nothing did."""
        if original.data != patched.data and not self._moved(original, patched):
            return "its code changed"
        before, after = self._original.references(original), self._patched.references(patched)
        if before != after:
            return f"what its code refers to changed{self._example(patched, before, after)}"
        one, two = self._original.special(original), self._patched.special(patched)
        different = sorted(name for name in one.keys() | two.keys() if one.get(name) != two.get(name))
        return f"its entries in {', '.join(different)} changed" if different else None

    def _moved(self, original: Piece, patched: Piece) -> bool:
        sides = (self._original.parts, original), (self._patched.parts, patched)
        if not self._lines_move or not only_lines_differ(*sides):
            return False
        self.moved.append(patched.name)
        return True

    def _example(self, patched: Piece, before: Fingerprint, after: Fingerprint) -> str:
        """The first thing that the patched function refers to and the original does not."""
        relocs = self._patched.parts.relocs(patched)
        for number, reloc in enumerate(relocs):
            if before[number : number + 1] != after[number : number + 1]:
                return f": {_told(self._patched.parts.target(patched.section, reloc))}"
        return ""

    def same(self, original: Piece, patched: Piece) -> bool:
        """Whether two pieces of data are initialised alike."""
        return self._original.content(original) == self._patched.content(patched)


def _told(target: Target) -> str:
    piece = target.piece
    if piece is None:
        return target.symbol.name
    if piece.kind is Kind.STRING:
        text = piece.data[max(0, target.offset) :].rstrip(b"\0").decode("utf-8", "backslashreplace")
        return f'the string "{text[:_SHOWN]}"'.replace("\n", "\\n")
    return piece.name


def compare(
    original: Parts, patched: Parts, pairs: Correlation, entries: tuple[Entries, Entries], lines_move: bool
) -> Comparison:
    """The comparison of two object files whose pieces were paired."""

    def common(piece: Piece) -> Piece:
        return pairs.original(piece) or piece

    return Comparison(
        Side(original, entries[0], lambda piece: piece),
        Side(patched, entries[1], common),
        lines_move,
    )
