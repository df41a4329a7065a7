# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Is what would be replaced what runs? The functions of a rebuilt object, compared with those that were shipped.

Run-pre matching (J. Arnold and M. F. Kaashoek, "Ksplice: automatic rebootless kernel updates", EuroSys 2009,
section 4), done with the shipped file: places that a relocation fills differ by nature and are left out. A
difference says that compiler, configuration or source are not those of the running kernel, or that the function
that runs is another one of that name (a weak one that was overridden).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.kpatch.fleet.plugins.module_utils.build import elf
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import (
    ChangedFunction,
    ElfError,
    ObjectContext,
    Refusal,
)
from ansible_collections.kpatch.fleet.plugins.module_utils.build.symtab import Entry

_WIDTHS = {elf.R_64: 8, elf.R_PC64: 8}


@dataclass(frozen=True)
class _Function:
    """A function's bytes in a relocatable object, and the places in them that relocations fill."""

    code: bytes
    masked: frozenset[int]


def compare(rebuilt: Path, shipped: Path, context: ObjectContext, changes: Sequence[ChangedFunction]) -> list[Refusal]:
    """A refusal for each of *changes* whose rebuilt original is not what *shipped* has."""
    if not changes:
        return []
    functions = _functions(elf.read(rebuilt), {changed.name for changed in changes})
    refusals = []
    image = _Image(shipped)
    for changed in changes:
        reason = _reason(functions.get(changed.name), image, _entry(context, changed.name, changed.sympos))
        if reason is not None:
            refusals.append(Refusal(context.source, changed.name, reason))
    return refusals


def _entry(context: ObjectContext, name: str, sympos: int) -> Entry | None:
    entries = context.symbols.entries(name)
    return entries[max(sympos - 1, 0)] if sympos <= len(entries) and entries else None


def _reason(function: _Function | None, image: _Image, entry: Entry | None) -> str | None:
    if entry is None:
        return "the kernel has no function of that name; is the file built into it?"
    if function is None:
        return "its rebuilt original has no symbol; kpatch.fleet can't tell whether it is what runs"
    code, masked = image.code(entry.place, len(function.code))
    skipped = function.masked | masked
    differing = [
        at for at, (ours, theirs) in enumerate(zip(function.code, code)) if ours != theirs and at not in skipped
    ]
    if entry.size == len(function.code) == len(code) and not differing:
        return None
    return (
        "its rebuilt original is not what the kernel runs "
        + (
            f"(first difference at offset {differing[0]:#x})"
            if differing
            else f"(size {len(function.code)}, shipped {entry.size})"
        )
        + ": another compiler or source, or another function of that name overrides it; patch that one"
    )


def _functions(parsed: elf.Elf, names: set[str]) -> dict[str, _Function]:
    """Those of *names* that there are."""
    return {
        symbol.name: _function(symbol, symbol.section)
        for symbol in parsed.symbols
        if symbol.name in names and symbol.type == elf.STT_FUNC and symbol.section is not None
    }


def _function(symbol: elf.Symbol, section: elf.Section) -> _Function:
    code = section.data[symbol.value : symbol.value + symbol.size]
    return _Function(code, frozenset(at - symbol.value for at in _filled(section.relocs)))


def _filled(relocs: Iterable[elf.Reloc]) -> set[int]:
    return {reloc.offset + byte for reloc in relocs for byte in range(_WIDTHS.get(reloc.type, 4))}


class _Image:
    """A vmlinux or a shipped module: its code by place, as symtab.Entry has it."""

    def __init__(self, path: Path) -> None:
        self._path, self._bytes = path, elf.mapped(path)
        self._headers = elf.headers(path, self._bytes, (elf.ET_REL, *elf.LINKED))

    def code(self, place: tuple[int, int, int], size: int) -> tuple[bytes, set[int]]:
        """*size* bytes at *place*, and which of them the module loader has yet to fill."""
        number, value = place[1:]
        if number == 0:  # linked: the value is an address
            header = self._at(value)
            start = header.offset + value - header.addr
            return bytes(self._bytes[start : start + size]), set()
        header = self._headers[number]
        start = header.offset + value
        return bytes(self._bytes[start : start + size]), {at - value for at in self._filled_in(number)}

    def _at(self, address: int) -> elf.Header:
        for header in self._headers:
            if header.flags & elf.SHF_ALLOC and header.addr <= address < header.addr + header.size:
                return header
        raise ElfError(f"{self._path}: nothing is at address {address:#x}")

    def _filled_in(self, number: int) -> set[int]:
        filled: set[int] = set()
        for header in self._headers:
            if header.type == elf.SHT_RELA and header.info == number:
                entries = elf.RELA.iter_unpack(self._bytes[header.offset : header.offset + header.size])
                for offset, info, _addend in entries:
                    filled.update(range(offset, offset + _WIDTHS.get(info & 0xFFFFFFFF, 4)))
        return filled
