# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which piece of the patched object file is which of the original.

Functions and most data keep their names. Static variables of functions are numbered by the compiler as it meets
them, so that a new one renumbers those that follow: they are told by the order in which functions use them.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator
from difflib import SequenceMatcher

from ansible_collections.kpatch.fleet.plugins.module_utils.build.elf import SHF_WRITE
from ansible_collections.kpatch.fleet.plugins.module_utils.build.pieces import Kind, Parts, Piece, Target
from ansible_collections.kpatch.fleet.plugins.module_utils.build.special import DYNAMIC_DEBUG

_NUMBER = re.compile(r"\.\d+$")
# __BTF_ID__set8__tcp_bbr_check_kfunc_ids, __BTF_ID__func__bbr_init__713: a counter and the line.
_UNIQUE = re.compile(r"(__UNIQUE_ID_\w*?|__BTF_ID__\w*?__)\d+$")
_CLONE = re.compile(r"\.(isra|constprop|part|llvm)\.\d+")
_CLONE_NUMBER = re.compile(r"\.\d+(?=\.|$)")


_MOST_COMPARED = 4_000_000  # pairs of references; a function of the kernel has hundreds, a damaged file any number


def stem(name: str) -> str:
    """A name without the number that the compiler gave it: counter.3 → counter."""
    return _UNIQUE.sub(r"\1", _NUMBER.sub("", name))


def is_copied(piece: Piece) -> bool:
    """Whether each module has its own: nobody compares the address, and what counts is what it contains.

    That includes constants of functions: __func__, __msg of NL_SET_ERR_MSG(), tables.
    """
    if piece.kind in (Kind.STRING, Kind.CONSTANT, Kind.CHUNK):
        return True
    if piece.kind is not Kind.DATA:
        return False
    constant = not piece.section.flags & SHF_WRITE and piece.section.name.startswith(".rodata")
    return (constant and stem(piece.name) != piece.name) or piece.section.name == DYNAMIC_DEBUG


def is_message_limit(piece: Piece) -> bool:
    """Whether it is the state of a WARN_ONCE() or pr_info_ratelimited(): all that another one does is to say it again.

    `__already_done.12` of 6.12 are so many that nothing may tell which one is meant.
    """
    return piece.section.name.startswith((".data.once", ".data..once")) or stem(piece.name) in _LIMITS


_LIMITS = {"__warned", "__already_done", "__print_once", "__ret_once", "_rs"}


class Correlation:
    """Pairs of pieces, both ways."""

    def __init__(self, original: Parts, patched: Parts) -> None:
        self._original, self._patched = original, patched
        self._originals: dict[int, Piece] = {}
        self._patcheds: dict[int, Piece] = {}
        self._separated: set[int] = set()
        self._clones()
        self._by_name()
        self._by_use()
        self._leftovers()

    def original(self, piece: Piece) -> Piece | None:
        """The original of a piece of the patched file; None if it is new."""
        return self._originals.get(id(piece))

    def patched(self, piece: Piece) -> Piece | None:
        """What became of a piece of the original file; None if it was removed."""
        return self._patcheds.get(id(piece))

    def _pair(self, original: Piece, patched: Piece) -> bool:
        if id(original) in self._patcheds or id(patched) in self._originals:
            return False
        self._patcheds[id(original)] = patched
        self._originals[id(patched)] = original
        return True

    def separate(self, patched: Piece) -> None:
        """Take a pair apart: *patched* is to be brought along beside its original."""
        original = self._originals.pop(id(patched))
        del self._patcheds[id(original)]
        self._separated |= {id(patched), id(original)}

    def was_separated(self, piece: Piece) -> bool:
        """Whether *piece*, of either file, is one of a pair that was taken apart."""
        return id(piece) in self._separated

    def _clones(self) -> None:
        """GCC numbers the clones of a function: foo.constprop.0 may have become foo.constprop.1.

        Those that did not change tell which is which; of one on each side there is no doubt. What is left is told by
        its name, or new: then its callers change with it.
        """
        groups: dict[str, tuple[list[Piece], list[Piece]]] = defaultdict(lambda: ([], []))
        for side, parts in enumerate((self._original, self._patched)):
            for piece in parts:
                if piece.kind is Kind.FUNCTION and _CLONE.search(piece.name):
                    groups[_CLONE_NUMBER.sub("", piece.name)][side].append(piece)
        for mine, other in groups.values():
            if len(mine) == len(other) == 1:
                self._pair(mine[0], other[0])
            elif {piece.name for piece in mine} != {piece.name for piece in other}:
                self._unchanged_clones(mine, other)

    def _unchanged_clones(self, mine: list[Piece], other: list[Piece]) -> None:
        for original in mine:
            look = _looks(self._original, original)
            like = [patched for patched in other if _looks(self._patched, patched) == look]
            if len(like) == 1:
                self._pair(original, like[0])

    def _by_name(self) -> None:
        """By any of its names: the patch may give a function an alias."""
        mine: dict[Hashable, list[Piece]] = defaultdict(list)
        for piece in self._original:
            if _named(piece) and not _numbered(piece):
                for name in _names(piece):
                    mine[(piece.kind, name)].append(piece)
        for piece in self._patched:
            if _named(piece) and not _numbered(piece):
                candidates = (one for name in _names(piece) for one in mine[(piece.kind, name)])
                next((one for one in candidates if self._pair(one, piece)), None)

    def _by_use(self) -> None:
        work = [(piece, self._patcheds[id(piece)]) for piece in self._original if id(piece) in self._patcheds]
        work.sort(key=lambda pair: pair[0].kind is not Kind.FUNCTION)
        for original, patched in work:
            for pair in self._uses(original, patched):
                if self._pair(*pair):
                    work.append(pair)

    def _uses(self, original: Piece, patched: Piece) -> Iterable[tuple[Piece, Piece]]:
        """Numbered data that both use, in the same place among the other things that they refer to."""
        mine = [self._original.target(original.section, reloc) for reloc in self._original.relocs(original)]
        other = [self._patched.target(patched.section, reloc) for reloc in self._patched.relocs(patched)]
        for a, b in _matching([_token(x) for x in mine], [_token(x) for x in other]):
            one, two = mine[a].piece, other[b].piece
            if one and two and _numbered(one) and _alike(one, two):
                yield one, two
        yield from self._in_order(mine, other)

    def _in_order(self, mine: list[Target], other: list[Target]) -> Iterable[tuple[Piece, Piece]]:
        """Those that the comparison missed, if both use equally many of the name."""
        left = _remaining(mine, self._patcheds)
        right = _remaining(other, self._originals)
        for name, pieces in left.items():
            if len(pieces) == len(right.get(name, [])):
                yield from (pair for pair in zip(pieces, right[name]) if _alike(*pair))

    def _leftovers(self) -> None:
        """Data that no function uses, or only functions that changed their name: a single one of its name."""
        left: dict[str, list[Piece]] = defaultdict(list)
        right: dict[str, list[Piece]] = defaultdict(list)
        for side, parts, known in (
            (left, self._original, self._patcheds),
            (right, self._patched, self._originals),
        ):
            for piece in parts:
                if _named(piece) and _numbered(piece) and id(piece) not in known:
                    side[stem(piece.name)].append(piece)
        for name, pieces in left.items():
            if len(pieces) == 1 and len(right[name]) == 1 and _alike(pieces[0], right[name][0]):
                self._pair(pieces[0], right[name][0])


def _matching(mine: list[Hashable], other: list[Hashable]) -> Iterator[tuple[int, int]]:
    """The places of equal tokens in an alignment of two lists; what is equal at both ends is not looked at closely."""
    shorter = min(len(mine), len(other))
    head = next((at for at in range(shorter) if mine[at] != other[at]), shorter)
    yield from ((at, at) for at in range(head))
    rest = shorter - head
    tail = next((at for at in range(rest) if mine[-1 - at] != other[-1 - at]), rest)
    mine_end, other_end = len(mine) - tail, len(other) - tail
    if (mine_end - head) * (other_end - head) <= _MOST_COMPARED:
        matcher = SequenceMatcher(None, mine[head:mine_end], other[head:other_end], autojunk=False)
        for block in matcher.get_matching_blocks():
            yield from ((head + block.a + at, head + block.b + at) for at in range(block.size))
    yield from ((mine_end + at, other_end + at) for at in range(tail))


def _looks(parts: Parts, piece: Piece) -> Hashable:
    """Its code, and what that refers to, but for the compiler's numbers."""
    targets = (parts.target(piece.section, reloc) for reloc in parts.relocs(piece))
    return piece.data, tuple(_token(target) for target in targets)


def _names(piece: Piece) -> list[str]:
    """Its names, the one that it is known by first."""
    return [piece.name, *(symbol.name for symbol in piece.symbols if symbol.name != piece.name)]


def _named(piece: Piece) -> bool:
    return piece.kind in (Kind.FUNCTION, Kind.DATA) and not is_copied(piece)


def _numbered(piece: Piece) -> bool:
    return piece.kind is Kind.DATA and not is_copied(piece) and stem(piece.name) != piece.name


def _alike(original: Piece, patched: Piece) -> bool:
    return (
        patched.kind is Kind.DATA
        and stem(original.name) == stem(patched.name)
        and original.end - original.start == patched.end - patched.start
        and stem(original.section.name) == stem(patched.section.name)
    )


def _token(target: Target) -> Hashable:
    piece = target.piece
    if piece is None:
        return ("undefined", target.symbol.name)
    if piece.kind is Kind.STRING:
        return piece.data
    return (piece.kind, stem(piece.name)) if piece.symbol else piece.section.name


def _remaining(targets: list[Target], known: dict[int, Piece]) -> dict[str, list[Piece]]:
    names: dict[str, list[Piece]] = defaultdict(list)
    for target in targets:
        piece = target.piece
        if piece is None or not _numbered(piece) or id(piece) in known or piece in names[stem(piece.name)]:
            continue
        names[stem(piece.name)].append(piece)
    return names
