# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Relocatable ELF64 objects for x86-64: what they consist of, and reading them.

Plain struct unpacking: pyelftools takes twenty times as long over net/core/dev.o, and has to be trusted with
damaged files. Symbols and sections are referred to as objects, so that the writer alone deals with indices.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import ElfError

EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
SHDR = struct.Struct("<IIQQQQIIQQ")
SYM = struct.Struct("<IBBHQQ")
RELA = struct.Struct("<QQq")
IDENT = b"\x7fELF\x02\x01\x01"

ET_REL, ET_EXEC, ET_DYN = 1, 2, 3
LINKED = (ET_EXEC, ET_DYN)
EM_X86_64 = 62
SHT_PROGBITS, SHT_SYMTAB, SHT_STRTAB, SHT_RELA, SHT_NOBITS, SHT_REL, SHT_GROUP = 1, 2, 3, 4, 8, 9, 17
SHF_WRITE, SHF_ALLOC, SHF_EXECINSTR, SHF_MERGE, SHF_STRINGS = 0x1, 0x2, 0x4, 0x10, 0x20
SHF_INFO_LINK, SHF_LINK_ORDER = 0x40, 0x80
SHF_RELA_LIVEPATCH = 0x00100000
SHN_UNDEF, SHN_LORESERVE, SHN_LIVEPATCH, SHN_ABS, SHN_COMMON = 0, 0xFF00, 0xFF20, 0xFFF1, 0xFFF2
STB_LOCAL, STB_GLOBAL, STB_WEAK = 0, 1, 2
STT_NOTYPE, STT_OBJECT, STT_FUNC, STT_SECTION, STT_FILE = 0, 1, 2, 3, 4
LONGEST_NAME = 1 << 12  # eight times as long as kallsyms takes
MOST_ALIGNED = 1 << 21  # a huge page
MOST_EMPTY = 1 << 30  # bytes of a .bss
R_NONE, R_64, R_PC32, R_PLT32, R_32, R_32S, R_PC8, R_PC64 = 0, 1, 2, 4, 10, 11, 15, 24


@dataclass(eq=False)
class Symbol:
    """A symbol; `section` is None for undefined and special ones, which `special` tells apart."""

    name: str
    value: int = 0
    size: int = 0
    bind: int = STB_LOCAL
    type: int = STT_NOTYPE
    other: int = 0
    section: Section | None = None
    special: int = SHN_UNDEF

    @property
    def undefined(self) -> bool:
        """Whether another file has to define it."""
        return self.section is None and self.special == SHN_UNDEF


@dataclass(eq=False)
class Reloc:
    """One relocation; `offset` counts from the start of the section that it changes."""

    offset: int
    type: int
    symbol: Symbol
    addend: int


@dataclass(eq=False)
class Section:
    """A section with its relocations; those that livepatch resolves are kept apart, by section name."""

    name: str
    type: int = SHT_PROGBITS
    flags: int = 0
    align: int = 1
    entsize: int = 0
    data: bytes = b""
    size: int = 0
    info: int = 0
    link: Section | None = None
    relocs: list[Reloc] = field(default_factory=list)
    livepatch: dict[str, list[Reloc]] = field(default_factory=dict)

    @property
    def code(self) -> bool:
        """Whether it holds instructions."""
        return bool(self.flags & SHF_EXECINSTR)


@dataclass(eq=False)
class Elf:
    """A relocatable object: no tables of symbols, strings or relocations among its sections, no debugging data."""

    sections: list[Section] = field(default_factory=list)
    symbols: list[Symbol] = field(default_factory=list)


@dataclass(frozen=True)
class Header:
    """One section header as it stands in the file."""

    name: str
    type: int
    flags: int
    addr: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    entsize: int


def strings_at(strings: bytes, offsets: Sequence[int], path: Path) -> list[bytes]:
    """The NUL-terminated strings at *offsets* of a string table."""
    ends = [strings.find(b"\0", offset, offset + LONGEST_NAME) for offset in offsets]
    if -1 in ends:
        offset = offsets[ends.index(-1)]
        raise ElfError(f"{path}: damaged: a name at offset {offset} is outside its string table, or too long")
    return [strings[offset:end] for offset, end in zip(offsets, ends)]


def text(string: bytes) -> str:
    """A name as text; a damaged file may have any bytes for one."""
    return string.decode("utf-8", "surrogateescape")


def mapped(path: Path) -> memoryview:
    """The bytes of a file of which little is wanted: a vmlinux is large."""
    try:
        with path.open("rb") as stream:
            return memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise ElfError(f"{path}: can't be read: {error.strerror}") from error
    except ValueError:  # an empty file
        return memoryview(b"")


def headers(path: Path, image: memoryview, types: tuple[int, ...] = (ET_REL,)) -> list[Header]:
    """The section headers of an ELF64 x86-64 file of one of *types*."""
    if len(image) < EHDR.size or bytes(image[: len(IDENT)]) != IDENT:
        raise ElfError(f"{path}: not a little-endian ELF64 file, or cut off in its header")
    fields = EHDR.unpack_from(image)
    kind, machine, start = fields[1], fields[2], fields[6]
    width, count, names = fields[11:]
    if kind not in types or machine != EM_X86_64:
        raise ElfError(f"{path}: ELF type {kind} for machine {machine}; expected type {types} for x86-64")
    if width != SHDR.size or not count or start + width * count > len(image) or names >= count:
        raise ElfError(f"{path}: damaged: its section headers are not within the file")
    raw = list(SHDR.iter_unpack(image[start : start + width * count]))
    for number, fields in enumerate(raw):
        if fields[1] not in (0, SHT_NOBITS) and fields[4] + fields[5] > len(image):
            raise ElfError(f"{path}: damaged: section {number} ends outside the file; build it again")
    if sum(fields[5] for fields in raw if fields[1] not in (0, SHT_NOBITS)) > len(image):
        raise ElfError(f"{path}: damaged: its sections overlap")
    strings = bytes(image[raw[names][4] : raw[names][4] + raw[names][5]])
    found = strings_at(strings, [fields[0] for fields in raw], path)
    return [Header(text(name), *fields[1:]) for name, fields in zip(found, raw)]


def is_linked(image: memoryview) -> bool:
    """Whether symbols have addresses. Sections of relocatable files may, too: binutils 2.44 leaves some in modules."""
    return bool(EHDR.unpack_from(image)[1] in LINKED)


def table(path: Path, image: memoryview, header: Header, layout: struct.Struct) -> memoryview:
    """The bytes of a table of *layout*s."""
    if header.entsize != layout.size or header.size % layout.size:
        raise ElfError(f"{path}: damaged: {header.name} has entries of {header.entsize} bytes")
    return image[header.offset : header.offset + header.size]


def read(path: Path) -> Elf:
    """Read a relocatable object."""
    try:
        return parse(path.read_bytes(), path)
    except OSError as error:
        raise ElfError(f"{path}: can't be read: {error.strerror}") from error


def parse(image: bytes, path: Path) -> Elf:
    """The relocatable object that *image* is, which messages call *path*."""
    return _Reader(path, memoryview(image)).elf()


class _Reader:
    """Turns the indices of one file into objects, each step checking what it reads."""

    def __init__(self, path: Path, image: memoryview) -> None:
        self.path = path
        self.image = image
        self.headers = headers(path, image)
        self.sections: list[Section | None] = [self._section(header) for header in self.headers]

    def elf(self) -> Elf:
        symbols = self._symbols()
        for header, section in zip(self.headers, self.sections):
            if section is not None and header.flags & SHF_LINK_ORDER:
                section.link = self._defined(header.link, header.name)
        for header in self.headers:
            if header.type == SHT_RELA and not _debugging(header.name):
                self._relocations(header, symbols)
            elif header.type == SHT_REL:
                raise ElfError(f"{self.path}: {header.name}: section type {header.type} is not supported")
        return Elf([section for section in self.sections if section is not None], symbols)

    def _section(self, header: Header) -> Section | None:
        if header.type in (0, SHT_SYMTAB, SHT_RELA, SHT_REL, SHT_GROUP) or _debugging(header.name):
            return None
        if header.type == SHT_STRTAB and not header.flags & SHF_ALLOC:
            return None
        self._check(header)
        stored = header.type != SHT_NOBITS
        data = bytes(self.image[header.offset : header.offset + header.size]) if stored else b""
        flags, align = header.flags, header.align
        return Section(header.name, header.type, flags, align, header.entsize, data, header.size, info=header.info)

    def _check(self, header: Header) -> None:
        """Nothing that is needed later may be out of all proportion."""
        empty = header.type == SHT_NOBITS
        if header.align & (header.align - 1) or header.align > MOST_ALIGNED:
            raise ElfError(f"{self.path}: damaged: {header.name} is aligned to {header.align} bytes")
        if empty and (header.size > MOST_EMPTY or header.flags & (SHF_MERGE | SHF_EXECINSTR)):
            raise ElfError(
                f"{self.path}: damaged: {header.name} stores nothing, but {header.size} bytes of what it says"
            )

    def _defined(self, index: int, whose: str) -> Section:
        section = self.sections[index] if index < len(self.sections) else None
        if section is None:
            raise ElfError(f"{self.path}: damaged: {whose} refers to section {index}")
        return section

    def _symbols(self) -> list[Symbol]:
        tables = [header for header in self.headers if header.type == SHT_SYMTAB]
        if len(tables) != 1:
            raise ElfError(f"{self.path}: has {len(tables)} symbol tables; expected 1 (was it stripped?)")
        strings = self._strings(tables[0].link)
        entries = list(SYM.iter_unpack(table(self.path, self.image, tables[0], SYM)))[1:]  # without the null symbol
        names = strings_at(strings, [entry[0] for entry in entries], self.path)
        return [self._symbol(text(name), *entry[1:]) for name, entry in zip(names, entries)]

    def _symbol(self, name: str, info: int, other: int, shndx: int, value: int, size: int) -> Symbol:
        special = shndx == SHN_UNDEF or shndx >= SHN_LORESERVE
        section = None if special else self._section_of(shndx, name)
        if section is not None and value > section.size:
            raise ElfError(f"{self.path}: damaged: the symbol {name!r} is outside of {section.name}")
        place = shndx if special else SHN_UNDEF
        return Symbol(name, value, size, info >> 4, info & 15, other, section, place)

    def _section_of(self, index: int, name: str) -> Section | None:
        """The section of a symbol; the assembler may give a section symbol to a table that we drop."""
        if index >= len(self.sections):
            raise ElfError(f"{self.path}: damaged: the symbol {name!r} is in section {index}")
        return self.sections[index]

    def _strings(self, index: int) -> bytes:
        if index >= len(self.headers) or self.headers[index].type != SHT_STRTAB:
            raise ElfError(f"{self.path}: damaged: section {index} is not a string table")
        header = self.headers[index]
        return bytes(self.image[header.offset : header.offset + header.size])

    def _relocations(self, header: Header, symbols: list[Symbol]) -> None:
        section = self._defined(header.info, header.name)
        relocs = []
        for offset, info, addend in RELA.iter_unpack(table(self.path, self.image, header, RELA)):
            if offset >= len(section.data) or not 0 <= (info >> 32) <= len(symbols):
                raise ElfError(f"{self.path}: damaged: {header.name} has a relocation outside its section")
            if info & 0xFFFFFFFF != R_NONE:
                relocs.append(Reloc(offset, info & 0xFFFFFFFF, self._target(symbols, info >> 32), addend))
        if header.flags & SHF_RELA_LIVEPATCH:
            section.livepatch[header.name] = relocs
        else:
            section.relocs = relocs

    def _target(self, symbols: list[Symbol], index: int) -> Symbol:
        return symbols[index - 1] if index else Symbol("")


def _debugging(name: str) -> bool:
    """Whether a section, or the one that its relocations are for, tells debuggers about the others."""
    return name.startswith((".debug_", ".rela.debug_"))
