# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writing relocatable ELF64 objects for x86-64. The same object gives the same bytes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ansible_collections.kpatch.fleet.plugins.module_utils.build import elf as e
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import ElfError


class _Strings:
    """A string table being filled; equal strings are stored once."""

    def __init__(self) -> None:
        self.data = bytearray(b"\0")
        self.offsets = {"": 0}

    def add(self, text: str) -> int:
        if text not in self.offsets:
            self.offsets[text] = len(self.data)
            self.data += text.encode("utf-8", "surrogateescape") + b"\0"
        return self.offsets[text]


@dataclass
class _Entry:
    """A section header whose name is still text and whose place in the file is not known yet."""

    name: str
    type: int
    flags: int
    data: bytes
    size: int
    link: int = 0
    info: int = 0
    align: int = 1
    entsize: int = 0


def write(obj: e.Elf, path: Path) -> None:
    """Write *obj* to *path*, by rename."""
    scratch = path.with_name(path.name + ".part")
    try:
        scratch.write_bytes(image(obj))
        scratch.replace(path)
    except OSError as error:
        scratch.unlink(missing_ok=True)
        raise ElfError(f"{path}: can't be written: {error.strerror}") from error


def image(obj: e.Elf) -> bytes:
    """The bytes of *obj* as a file."""
    symbols = sorted(obj.symbols, key=lambda symbol: symbol.bind != e.STB_LOCAL)
    numbers = {id(symbol): number for number, symbol in enumerate(symbols, 1)}
    indices = _section_indices(obj)
    symtab_index = 1 + len(obj.sections) + sum(len(_rela_tables(section)) for section in obj.sections)
    entries = []
    for section in obj.sections:
        entries.append(_section_entry(section, indices))
        for name, flags, relocs in _rela_tables(section):
            data = b"".join(e.RELA.pack(r.offset, _number(numbers, r.symbol) << 32 | r.type, r.addend) for r in relocs)
            index = indices[id(section)]
            rela = _Entry(name, e.SHT_RELA, flags, data, len(data), symtab_index, index, 8, e.RELA.size)
            entries.append(rela)
    return _lay_out(entries + _symbol_entries(symbols, indices, symtab_index + 1))


def _rela_tables(section: e.Section) -> list[tuple[str, int, list[e.Reloc]]]:
    tables = []
    if section.relocs:
        tables.append((".rela" + section.name, e.SHF_INFO_LINK, section.relocs))
    flags = e.SHF_INFO_LINK | e.SHF_ALLOC | e.SHF_RELA_LIVEPATCH
    tables += [(name, flags, relocs) for name, relocs in sorted(section.livepatch.items())]
    return tables


def _section_indices(obj: e.Elf) -> dict[int, int]:
    indices, index = {}, 1
    for section in obj.sections:
        indices[id(section)] = index
        index += 1 + len(_rela_tables(section))
    return indices


def _section_entry(section: e.Section, indices: dict[int, int]) -> _Entry:
    link = indices[id(section.link)] if section.link is not None else 0
    flags, data = section.flags, section.data
    return _Entry(
        section.name, section.type, flags, data, section.size, link, section.info, section.align, section.entsize
    )


def _number(numbers: dict[int, int], symbol: e.Symbol) -> int:
    """A symbol's index; the null symbol stands for a relocation without one."""
    if not symbol.name and symbol.section is None:
        return 0
    return numbers[id(symbol)]


def _symbol_entries(symbols: list[e.Symbol], indices: dict[int, int], strtab: int) -> list[_Entry]:
    strings = _Strings()
    data = bytearray(e.SYM.size)
    for symbol in symbols:
        shndx = symbol.special if symbol.section is None else indices[id(symbol.section)]
        info = symbol.bind << 4 | symbol.type
        name = strings.add(symbol.name)
        data += e.SYM.pack(name, info, symbol.other, shndx, symbol.value, symbol.size)
    first_global = 1 + sum(symbol.bind == e.STB_LOCAL for symbol in symbols)
    size = len(data)
    symtab = _Entry(".symtab", e.SHT_SYMTAB, 0, bytes(data), size, strtab, first_global, 8, e.SYM.size)
    return [symtab, _Entry(".strtab", e.SHT_STRTAB, 0, bytes(strings.data), len(strings.data))]


def _lay_out(entries: list[_Entry]) -> bytes:
    """The header, the sections' bytes, the section headers."""
    names = _Strings()
    for entry in entries:
        names.add(entry.name)
    names.add(".shstrtab")
    entries = [*entries, _Entry(".shstrtab", e.SHT_STRTAB, 0, bytes(names.data), len(names.data))]
    body, table = bytearray(e.EHDR.size), bytearray(e.SHDR.size)
    for x in entries:
        body += bytes(-len(body) % max(x.align, 1))
        name, at = names.add(x.name), len(body)
        table += e.SHDR.pack(name, x.type, x.flags, 0, at, x.size, x.link, x.info, x.align, x.entsize)
        body += x.data
    body += bytes(-len(body) % 8)
    ident = e.IDENT.ljust(16, b"\0")
    count, size, start = len(entries) + 1, e.SHDR.size, len(body)
    fields = (e.ET_REL, e.EM_X86_64, 1, 0, 0, start, 0, e.EHDR.size, 0, 0, size, count, count - 1)
    body[: e.EHDR.size] = e.EHDR.pack(ident, *fields)
    return bytes(body + table)
