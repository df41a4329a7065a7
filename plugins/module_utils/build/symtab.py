# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The symbols of a linked vmlinux or module, and which of several of one name an object file means.

The linker keeps the local symbols of each object file together, after a FILE symbol that bears the basename of
its source. Basenames collide, and a stripped file has no FILE symbols: the local names of the object file then
tell its group from the others.
"""

from __future__ import annotations

import bisect
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from ansible_collections.kpatch.fleet.plugins.module_utils.build import elf as e
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import BuildError, ElfError

_NAME, _INFO = struct.Struct("<I20x"), 4  # of an e.SYM: where its name is in the strings; where its info is
_CLEARLY = 1.2  # how much nearer to its fellows than any other the right symbol has to be


class AmbiguousError(BuildError):
    """Several symbols have the name, and nothing tells which one is meant."""


class Entry(NamedTuple):
    """A symbol as kallsyms will see it."""

    name: str
    part: int  # of a module, as its loader lays it out
    section: int
    value: int
    size: int
    local: bool
    number: int  # in the symbol table: symbols of one object file are neighbours
    weak: bool

    @property
    def place(self) -> tuple[int, int, int]:
        """Orders symbols as their addresses do."""
        return self[1:4]


class SymbolTable:
    """What can be looked up by name.

    A kernel has a hundred thousand symbols and a patch asks for some: all names are known, and an entry is made of a
    symbol when somebody asks for it.
    """

    def __init__(self, table: bytes, names: Sequence[bytes], sections: Sequence[tuple[int, int]]) -> None:
        """*table* as it is in the file, the names of its symbols, and what Entry says of each section."""
        self._table, self._names, self._sections = table, names, sections
        self._infos = table[_INFO :: e.SYM.size]
        # Nearly all names have one symbol: lists are kept of the others only.
        self._first: dict[bytes, int] = {}
        self._same: dict[bytes, list[int]] = {}
        for number, name in enumerate(names):
            first = self._first.setdefault(name, number)
            if first != number:
                self._same.setdefault(name, [first]).append(number)
        self._entries: dict[str, list[Entry]] = {}

    def __contains__(self, name: str) -> bool:
        return bool(self.entries(name))

    def group(self, source: str, names: set[str]) -> Group:
        """The local symbols of the object file made of *source*, whose local symbols are *names*."""
        files = self._files(source.rsplit("/", 1)[-1])
        scores = [len(names & {entry.name for entry in self._locals_among(file)}) for file in files]
        best = max(scores, default=0)
        fitting = [file for file, score in zip(files, scores) if score == best]
        return Group(self, fitting if best else None, frozenset(names))

    def entries(self, name: str) -> list[Entry]:
        """All symbols of that name, in the order of their addresses."""
        if name not in self._entries:
            found = filter(None, map(self._entry, self._numbers(name)))
            self._entries[name] = sorted(found, key=lambda entry: entry.place)
        return self._entries[name]

    def ordinal(self, name: str, sympos: int) -> int:
        """Which address of that name it is that livepatch calls *sympos*.

        Livepatch counts symbols and the core module addresses: what has no size shares its address with others. Each
        lockdep key of a kernel without lockdep, __key.0, is such.
        """
        return len({entry.place for entry in self.entries(name)[:sympos]})

    def position(self, name: str, sympos: int) -> int:
        """Which symbol of that name livepatch calls it in a module: it goes by the symbol table, not by addresses.

        In vmlinux it goes by addresses, too (kernel/livepatch/core.c, klp_find_object_symbol).
        """
        if not sympos:
            return 0
        same = self.entries(name)
        return 1 + sorted(same, key=lambda entry: entry.number).index(same[sympos - 1])

    def is_weak(self, name: str) -> bool:
        """Whether a weak function is what runs: none overrides it."""
        return any(entry.weak for entry in self.entries(name))

    def _numbers(self, name: str) -> list[int]:
        """Where in the table that name is."""
        key = name.encode("utf-8", "surrogateescape")
        return self._same.get(key) or ([self._first[key]] if key in self._first else [])

    def _entry(self, number: int) -> Entry | None:
        """What kallsyms will see of a symbol, if anything."""
        _name, info, _other, shndx, value, size = e.SYM.unpack_from(self._table, number * e.SYM.size)
        name = e.text(self._names[number])
        if info & 15 in (e.STT_FILE, e.STT_SECTION) or not 0 < shndx < len(self._sections):
            return None
        if not name or name.startswith((".L", "__crc_", "__pfx_")):
            return None
        (part, section), bind = self._sections[shndx], info >> 4
        return Entry(name, part, section, value, size, bind == e.STB_LOCAL, number, bind == e.STB_WEAK)

    def _files(self, basename: str) -> list[range]:
        """What is between each FILE symbol of that name and the next of any name."""
        return [
            range(number + 1, next(filter(self._is_file, range(number + 1, len(self._infos))), len(self._infos)))
            for number in self._numbers(basename)
            if self._is_file(number)
        ]

    def _is_file(self, number: int) -> bool:
        return self._infos[number] & 15 == e.STT_FILE

    def _locals_among(self, numbers: range) -> Iterator[Entry]:
        return filter(None, (self._entry(number) for number in numbers if self._infos[number] >> 4 == e.STB_LOCAL))

    @cached_property
    def _locals(self) -> list[tuple[int, str]]:
        return [(entry.number, entry.name) for entry in self._locals_among(range(len(self._infos)))]

    def nearness(self, entry: Entry, names: frozenset[str]) -> float:
        """How many local symbols around *entry* are among *names*; the farther away, the less one counts."""
        middle = bisect.bisect_left(self._locals, (entry.number, ""))
        width = len(names) + 1
        around = self._locals[max(0, middle - width) : middle + width + 1]
        return sum(1 / (1 + abs(number - entry.number)) for number, name in around if name in names)


@dataclass(frozen=True)
class Group:
    """One object file's place in the table: what follows each FILE symbol that fits as well as any, if one does."""

    table: SymbolTable
    files: list[range] | None
    names: frozenset[str]

    def sympos(self, name: str, local: bool, size: int = 0) -> int | None:
        """Which symbol of that name it is, as in `struct kpatch_func`; None if there is none of that name.

        *size* in bytes is the last resort between symbols that all fit; 0 if it is not known.
        """
        same = self.table.entries(name)
        if not same:
            return None
        if len(same) == 1:
            return 0
        fitting = [entry for entry in same if entry.local == local]
        if local:
            fitting = self._own(fitting)
        if len(fitting) > 1 and size:
            fitting = [entry for entry in fitting if entry.size == size]
        if len(fitting) != 1:
            raise AmbiguousError(
                f"there are {len(same)} symbols named {name}, and {len(fitting)} of them could be this one"
            )
        return 1 + same.index(fitting[0])

    def _own(self, entries: list[Entry]) -> list[Entry]:
        if self.files is not None:
            return [entry for entry in entries if any(entry.number in file for file in self.files)]
        scores = [self.table.nearness(entry, self.names) for entry in entries]
        return [entry for entry, score in zip(entries, scores) if score * _CLEARLY >= max(scores)]


def read_symbols(path: Path) -> SymbolTable:
    """The symbols of the vmlinux or module at *path* that kallsyms lists."""
    image = e.mapped(path)
    headers = e.headers(path, image, (e.ET_REL, *e.LINKED))
    tables = [header for header in headers if header.type == e.SHT_SYMTAB]
    if len(tables) != 1 or tables[0].link >= len(headers):
        raise ElfError(f"{path}: has no symbol table; take the file from the symbols package")
    names = headers[tables[0].link]
    strings = bytes(image[names.offset : names.offset + names.size])
    table = bytes(e.table(path, image, tables[0], e.SYM))
    offsets = [offset for (offset,) in _NAME.iter_unpack(table)]
    linked = e.is_linked(image)
    sections = [(0, 0) if linked else (_part(header), number) for number, header in enumerate(headers)]
    return SymbolTable(table, e.strings_at(strings, offsets, path), sections)


def _part(header: e.Header) -> int:
    """The order in which the module loader lays out sections (kernel/module/main.c, layout_sections)."""
    if header.name.startswith(".init"):
        return 4
    if header.flags & e.SHF_EXECINSTR:
        return 0
    if not header.flags & e.SHF_WRITE:
        return 1
    return 2 if header.name == ".data..ro_after_init" else 3
