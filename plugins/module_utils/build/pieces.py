# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An object file taken apart: pieces that can be compared and moved by themselves, and what refers to which.

With -ffunction-sections and -fdata-sections most pieces are whole sections. Sections that the source names
(.init.text, .data..read_mostly) hold several symbols, the merged ones strings, the out-of-line parts of
alternatives nameless chunks of code. Within such a section the assembler fills in branches itself: they are given the
relocations that they would have if each function had a section of its own.
"""

from __future__ import annotations

import bisect
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum

from ansible_collections.kpatch.fleet.plugins.module_utils.build import elf as e
from ansible_collections.kpatch.fleet.plugins.module_utils.build.decode import (
    Branch,
    UnknownInstructionError,
    branches,
)
from ansible_collections.kpatch.fleet.plugins.module_utils.build.instruction import branch_targets, field_bias

_RELOCATED = 4  # bytes of a distance that a relocation of the kernel fills in
# What the assembler puts between functions: nop of all lengths, int3, zeroes.
_PADDING = re.compile(
    rb"(?:\xcc|\x00|\x66*\x90|\x66*\x2e?\x0f\x1f(?:\x00|\x40\x00|\x44\x00{2}|\x80\x00{4}|\x84\x00{5}))*", re.DOTALL
)
PREFIX = "__pfx_"  # the padding before a function, for call depth tracking and FineIBT
_EXIT = "cleanup_module"
# What module_init() and module_exit() call a function besides, and MODULE_DEVICE_TABLE() a table (to 6.12, and in 7.2),
# for modpost to read: a patch module with such a table of its own would ask for devices.
_SECOND_NAME = re.compile(rf"init_module|{_EXIT}|__mod_(\w+_device_table|device_table__\w+)")


class Kind(Enum):
    """What a piece is."""

    FUNCTION = "function"
    DATA = "data"  # has a name
    STRING = "string"
    CONSTANT = "constant"  # nameless data
    CHUNK = "chunk"  # nameless code
    TABLE = "table"  # a special section, taken apart elsewhere


@dataclass(eq=False)
class Piece:
    """The bytes from `start` to `end` of a section, with the symbols that name them."""

    section: e.Section
    start: int
    end: int
    kind: Kind
    symbols: list[e.Symbol] = field(default_factory=list)

    @property
    def symbol(self) -> e.Symbol | None:
        """The symbol that it is known by: a function rather than a label, a global one rather than a local one."""
        named = [symbol for symbol in self.symbols if not symbol.name.startswith(PREFIX)] or self.symbols
        named = [symbol for symbol in named if not _SECOND_NAME.fullmatch(symbol.name)] or named
        return max(named, key=_rank, default=None)

    @property
    def name(self) -> str:
        """For messages and for finding its counterpart."""
        symbol = self.symbol
        return symbol.name if symbol else f"{self.section.name}+{self.start:#x}"

    @property
    def data(self) -> bytes:
        """Its bytes; zeroes if the file does not store them."""
        if self.section.type == e.SHT_NOBITS:
            return bytes(self.end - self.start)
        return self.section.data[self.start : self.end]

    @property
    def runs_last(self) -> bool:
        """Whether it is the exit function of its module, which the kernel finds in struct module."""
        return any(symbol.name == _EXIT for symbol in self.symbols)

    @property
    def code(self) -> bool:
        """Whether it is instructions."""
        return self.section.code


@dataclass(frozen=True)
class Target:
    """What a relocation refers to: `offset` into `piece`, or into the undefined `symbol` if that is None.

    The relocation's addend is `offset` + `bias`, counted from the start of the piece.
    """

    symbol: e.Symbol
    piece: Piece | None
    offset: int
    bias: int


class Parts:
    """The pieces of one object file."""

    def __init__(self, elf: e.Elf, is_table: Callable[[str], bool]) -> None:
        """*is_table* knows the special sections by name; each stays one piece."""
        self.elf = elf
        self._is_table = is_table
        self._symbols: dict[int, list[e.Symbol]] = defaultdict(list)
        for symbol in elf.symbols:
            if symbol.section is not None:
                self._symbols[id(symbol.section)].append(symbol)
        self._pieces: dict[int, list[Piece]] = {}
        self._starts: dict[int, list[int]] = {}
        self._relocs: dict[int, list[e.Reloc]] = {}
        self._targets: dict[int, Target] = {}
        self._tied: dict[int, Piece] = {}
        chunked = []
        for section in elf.sections:
            self._relocs[id(section)] = sorted(section.relocs, key=lambda reloc: reloc.offset)
            if not section.flags & e.SHF_ALLOC:
                continue
            if section.code and not self._named(section) and not is_table(section.name):
                chunked.append(section)
            self._pieces[id(section)] = self._split(section)
            if section.code and len(self._pieces[id(section)]) > 1 and self._named(section):
                self._relocate_branches(section)
        self._split_chunks(chunked)

    def __iter__(self) -> Iterator[Piece]:
        for section in self.elf.sections:
            yield from self._pieces.get(id(section), [])

    def of(self, section: e.Section) -> list[Piece]:
        """The pieces of a section, in order."""
        return self._pieces.get(id(section), [])

    def relocs(self, piece: Piece) -> list[e.Reloc]:
        """The relocations within a piece, in order; offsets count from the start of the section."""
        return self.relocs_between(piece.section, piece.start, piece.end)

    def relocs_between(self, section: e.Section, start: int, end: int) -> list[e.Reloc]:
        """The relocations from *start* to *end* of a section, in order."""
        relocs = self._relocs[id(section)]
        return relocs[_find(relocs, start) : _find(relocs, end)]

    def tied(self, piece: Piece) -> Piece | None:
        """The function in the same section that a piece of code branches to in a way that no relocation can tell: by a
        distance of one byte, or to a place within it. Such code can't be moved by itself.
        """
        return self._tied.get(id(piece))

    def _relocate_branches(self, section: e.Section) -> None:
        """Give the branches from one function of a section to another the relocations that the assembler left out."""
        pieces, code = self._pieces[id(section)], bytearray(section.data)
        entries = {piece.symbol.value: piece.symbol for piece in pieces if piece.symbol}
        filled = {reloc.offset for reloc in section.relocs}
        for piece in pieces:
            for branch in self._branches(piece):
                aim = self._piece_at(section, branch.target)
                if branch.field in filled or aim is None or aim is piece:
                    continue
                symbol = entries.get(branch.target)
                if symbol is None or branch.width != _RELOCATED:
                    self._tied.setdefault(id(piece), aim)
                if symbol is not None:
                    kind = e.R_PLT32 if branch.width == _RELOCATED else e.R_PC8
                    section.relocs.append(e.Reloc(branch.field, kind, symbol, -branch.width))
                    code[branch.field : branch.field + branch.width] = bytes(branch.width)
        section.data = bytes(code)
        self._relocs[id(section)] = sorted(section.relocs, key=lambda reloc: reloc.offset)

    def _branches(self, piece: Piece) -> list[Branch]:
        """The branches of a piece; of one that can't be taken apart none: it is tied to what it seems to branch to."""
        code = piece.section.data
        try:
            return branches(code, piece.start, piece.end)
        except UnknownInstructionError:
            named = ((other, other.symbol) for other in self.of(piece.section) if other is not piece)
            others = {symbol.value: other for other, symbol in named if symbol is not None}
            seeming = (
                others[target] for _at, target in branch_targets(code, piece.start, piece.end) if target in others
            )
            self._tied.update((id(piece), other) for other in seeming)
            return []

    def target(self, section: e.Section, reloc: e.Reloc) -> Target:
        """What a relocation of *section* refers to."""
        known = self._targets.get(id(reloc))
        if known is None:
            known = self._targets[id(reloc)] = self._target(section, reloc)
        return known

    def _target(self, section: e.Section, reloc: e.Reloc) -> Target:
        symbol = reloc.symbol
        if symbol.section is None:
            return Target(symbol, None, reloc.addend, 0)
        bias = self._bias(section, reloc)
        offset = symbol.value + reloc.addend - bias
        fixed = symbol.type == e.STT_SECTION
        piece = self._piece_at(symbol.section, offset if fixed else symbol.value)
        if piece is None:
            return Target(symbol, None, reloc.addend, 0)
        return Target(symbol, piece, offset - piece.start, bias)

    def piece_of(self, symbol: e.Symbol) -> Piece | None:
        """The piece that a symbol names."""
        return self._piece_at(symbol.section, symbol.value) if symbol.section is not None else None

    def _piece_at(self, section: e.Section, offset: int) -> Piece | None:
        """An address just behind a section, or before it, belongs to its last or first piece."""
        pieces = self._pieces.get(id(section), [])
        if not pieces:
            return None
        starts = self._starts.get(id(section))
        if starts is None or len(starts) != len(pieces):
            starts = self._starts[id(section)] = [piece.start for piece in pieces]
        return pieces[max(0, bisect.bisect_right(starts, offset) - 1)]

    def _bias(self, section: e.Section, reloc: e.Reloc) -> int:
        if section.code and reloc.type in (e.R_PC32, e.R_PLT32):
            return field_bias(section.data, reloc.offset)
        return -1 if reloc.type == e.R_PC8 else 0

    def _named(self, section: e.Section) -> list[e.Symbol]:
        return [
            symbol
            for symbol in self._symbols[id(section)]
            if symbol.type not in (e.STT_SECTION, e.STT_FILE) and symbol.name and not symbol.name.startswith(".L")
        ]

    def _split(self, section: e.Section) -> list[Piece]:
        if self._is_table(section.name):
            return [Piece(section, 0, section.size, Kind.TABLE)]
        if section.flags & e.SHF_MERGE and section.flags & e.SHF_STRINGS:
            return list(_strings(section))
        if section.flags & e.SHF_MERGE and section.entsize:
            step = section.entsize
            return [Piece(section, at, at + step, Kind.CONSTANT) for at in range(0, section.size, step)]
        named = self._named(section)
        if named:
            return _by_symbols(section, named)
        kind = Kind.CHUNK if section.code else Kind.CONSTANT
        return [Piece(section, 0, section.size, kind)] if section.size else []

    def _split_chunks(self, sections: list[e.Section]) -> None:
        """Nameless code starts wherever something refers to it from elsewhere."""
        starts: dict[int, set[int]] = {id(section): {0} for section in sections}
        for section in self.elf.sections:
            for reloc in section.relocs:
                aim = reloc.symbol.section
                if aim is None or id(aim) not in starts or aim is section or _follows(section.name, aim.name):
                    continue
                offset = reloc.symbol.value + reloc.addend - self._bias(section, reloc)
                if 0 <= offset < aim.size:
                    starts[id(aim)].add(offset)
        for section in sections:
            cuts = [*sorted(starts[id(section)]), section.size]
            self._pieces[id(section)] = [
                Piece(section, low, high, Kind.CHUNK) for low, high in zip(cuts, cuts[1:]) if low < high
            ]


def _find(relocs: list[e.Reloc], offset: int) -> int:
    """bisect_left by offset."""
    low, high = 0, len(relocs)
    while low < high:
        middle = (low + high) // 2
        if relocs[middle].offset < offset:
            low = middle + 1
        else:
            high = middle
    return low


def _follows(name: str, aim: str) -> bool:
    """Whether a section points at any instruction of *aim*, and so says nothing about where chunks start.

    Up to 5.15 an exception is handled in .fixup, and nothing but its entry says where.
    """
    if name == "__ex_table" and aim == ".fixup":
        return False
    return name.startswith(
        (
            ".orc_unwind",
            ".return_sites",
            ".retpoline_sites",
            ".call_sites",
            ".smp_locks",
            ".discard",
            ".parainstructions",
            "__ex_table",
            "__jump_table",
            "__bug_table",
        )
    )


def _rank(symbol: e.Symbol) -> tuple[bool, bool, int]:
    return symbol.type in (e.STT_FUNC, e.STT_OBJECT), symbol.bind != e.STB_LOCAL, symbol.size


def _strings(section: e.Section) -> Iterator[Piece]:
    """The NUL-terminated strings of a section; their characters may be wider than a byte."""
    width, start = section.entsize or 1, 0
    for at in range(0, section.size, width):
        if not any(section.data[at : at + width]):
            yield Piece(section, start, at + width, Kind.STRING)
            start = at + width
    if start < section.size:
        yield Piece(section, start, section.size, Kind.STRING)


def _by_symbols(section: e.Section, symbols: list[e.Symbol]) -> list[Piece]:
    """One piece per symbol; a label within a sized symbol and the padding before a function belong to it."""
    kind = Kind.FUNCTION if section.code else Kind.DATA
    pieces: list[Piece] = []
    ends, padding = -1, False
    for symbol in sorted(symbols, key=lambda symbol: (symbol.value, -symbol.size)):
        begins = not pieces or (symbol.value > pieces[-1].start and symbol.value >= ends and not padding)
        if begins:
            pieces.append(Piece(section, symbol.value if pieces else 0, section.size, kind))
        pieces[-1].symbols.append(symbol)
        padding = symbol.name.startswith(PREFIX)
        ends = max(ends, symbol.value + symbol.size)
    for piece, following in zip(pieces, pieces[1:]):
        piece.end = following.start
    if section.code and section.type != e.SHT_NOBITS:
        for piece in pieces:
            piece.end = _without_padding(piece)
    return pieces


def _without_padding(piece: Piece) -> int:
    """Where a function ends: what aligns the next one is none of it, and depends on that one."""
    end = max(symbol.value + symbol.size for symbol in piece.symbols)
    padding = piece.section.data[end : piece.end]
    return end if piece.start < end < piece.end and _PADDING.fullmatch(padding) else piece.end
