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
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from ansible_collections.kpatch.fleet.plugins.module_utils.build import elf as e
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import BuildError, ElfError

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
    file: int  # the number of the FILE symbol before it; 0 if it has none
    weak: bool

    @property
    def place(self) -> tuple[int, int, int]:
        """Orders symbols as their addresses do."""
        return self[1:4]


class SymbolTable:
    """What can be looked up by name."""

    def __init__(self, entries: Iterable[Entry], files: Iterable[str] = ()) -> None:
        """*files*: the names of the FILE symbols, the first of which is number 1."""
        self._files = ["", *files]
        # A hundred thousand names have one symbol each: lists are kept of the others only.
        self._first: dict[str, Entry] = {}
        self._same: dict[str, list[Entry]] = {}
        for entry in entries:
            first = self._first.setdefault(entry.name, entry)
            if first is not entry:
                self._same.setdefault(entry.name, [first]).append(entry)
        for same in self._same.values():
            same.sort(key=lambda entry: entry.place)

    def __contains__(self, name: str) -> bool:
        return name in self._first

    def group(self, source: str, names: set[str]) -> Group:
        """The local symbols of the object file made of *source*, whose local symbols are *names*."""
        basename = source.rsplit("/", 1)[-1]
        scores = {number: 0 for number, file in enumerate(self._files) if number and file == basename}
        for name in names:
            for number in {entry.file for entry in self.entries(name) if entry.local} & scores.keys():
                scores[number] += 1
        best = max(scores.values(), default=0)
        numbers = [number for number, score in scores.items() if score == best]
        return Group(self, frozenset(numbers) if best else None, frozenset(names))

    def entries(self, name: str) -> list[Entry]:
        """All symbols of that name, in the order of their addresses."""
        if name in self._same:
            return self._same[name]
        return [self._first[name]] if name in self._first else []

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

    @cached_property
    def _locals(self) -> list[tuple[int, str]]:
        entries = (entry for name in self._first for entry in self.entries(name))
        return sorted((entry.number, entry.name) for entry in entries if entry.local)

    def nearness(self, entry: Entry, names: frozenset[str]) -> float:
        """How many local symbols around *entry* are among *names*; the farther away, the less one counts."""
        middle = bisect.bisect_left(self._locals, (entry.number, ""))
        width = len(names) + 1
        around = self._locals[max(0, middle - width) : middle + width + 1]
        return sum(1 / (1 + abs(number - entry.number)) for number, name in around if name in names)


@dataclass(frozen=True)
class Group:
    """One object file's place in the table: the FILE groups that fit it equally well, if any do."""

    table: SymbolTable
    files: frozenset[int] | None
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
            return [entry for entry in entries if entry.file in self.files]
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
    linked = e.is_linked(image)
    entries: list[Entry] = []
    files: list[str] = []
    for index, (name, info, _other, shndx, value, size) in enumerate(
        e.SYM.iter_unpack(e.table(path, image, tables[0], e.SYM))
    ):
        kind, local = info & 15, info >> 4 == e.STB_LOCAL
        if kind == e.STT_FILE:
            files.append(e.string_at(strings, name, path))
        elif kind != e.STT_SECTION and 0 < shndx < len(headers):
            part, section = (0, 0) if linked else (_part(headers[shndx]), shndx)
            text = e.string_at(strings, name, path)
            if text and not text.startswith((".L", "__crc_", "__pfx_")):
                weak = info >> 4 == e.STB_WEAK
                entries.append(Entry(text, part, section, value, size, local, index, len(files), weak))
    return SymbolTable(entries, files)


def _part(header: e.Header) -> int:
    """The order in which the module loader lays out sections (kernel/module/main.c, layout_sections)."""
    if header.name.startswith((".init", ".exit")):
        return 4
    if header.flags & e.SHF_EXECINSTR:
        return 0
    if not header.flags & e.SHF_WRITE:
        return 1
    return 2 if header.name == ".data..ro_after_init" else 3
