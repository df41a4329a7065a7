# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the functions that a patch replaces look like in the running kernel: a checksum of their stable bytes.

The core module compares it before a switch (struct kpatch_original). Left out is what differs between the object
file and the running kernel: what relocations fill, and what the kernel rewrites by itself, at boot or later.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from ansible_collections.kpatch.fleet.plugins.module_utils.build import elf
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import ElfError, Original

_FNV_OFFSET, _FNV_PRIME = 0xCBF29CE484222325, 0x100000001B3  # 64-bit FNV-1a
_ENDBR64 = b"\xf3\x0f\x1e\xfa"
_CALL, _JUMP, _CS_PREFIX = 0xE8, 0xE9, 0x2E
_SHORT_JUMP, _SHORT_NOP = 0xEB, b"\x66\x90"
_WIDTHS = {elf.R_64: 8, elf.R_PC64: 8}

# Branches to these are rewritten as whole instructions: apply_returns(), apply_retpolines(), static calls, ftrace.
_REWRITTEN = ("__x86_return_thunk", "__x86_indirect_", "__SCT__", "__fentry__")

# Where struct alt_instr has instrlen, by its size: 12 bytes to 6.2, 13 with a padlen (5.10), 14 since 6.3.
_INSTRLEN = {12: 10, 13: 10, 14: 12}
_PARAVIRT_LEN = 9  # in struct paravirt_patch_site, of 16 bytes

# Tables whose entries name places of one length: lock prefixes, calls of ftrace, calls that are counted
# (call depth tracking), constants that boot sets (runtime_const_ptr(), runtime_const_shift_right_32()).
_FIXED = {".smp_locks": 1, "__mcount_loc": 5, ".call_sites": 5, "runtime_ptr_": 8, "runtime_shift_": 1}

_Place = tuple[int, int]  # offset in a section, length
_Places = dict[int, list[_Place]]  # by section


def originals(shipped: Path, names: Iterable[str]) -> dict[str, Original]:
    """What the functions *names* of the object file *shipped*, as kbuild makes it, look like when they run."""
    wanted = set(names)
    parsed = elf.read(shipped)
    places = _places(parsed)
    return {
        symbol.name: _original(symbol, symbol.section, places[id(symbol.section)])
        for symbol in parsed.symbols
        if symbol.type == elf.STT_FUNC and symbol.section is not None and symbol.name in wanted
    }


def _original(symbol: elf.Symbol, section: elf.Section, places: list[_Place]) -> Original:
    code = section.data[symbol.value : symbol.value + symbol.size]
    hidden = set(range(len(_ENDBR64))) if code.startswith(_ENDBR64) else set()
    for offset, length in places:
        hidden.update(range(offset - symbol.value, offset - symbol.value + length))
    hidden &= set(range(len(code)))
    checksum = _FNV_OFFSET
    for at, byte in enumerate(code):
        if at not in hidden:
            checksum = (checksum ^ byte) * _FNV_PRIME & 0xFFFFFFFFFFFFFFFF
    return Original(checksum, len(code), tuple(_ranges(sorted(hidden))))


def _ranges(offsets: list[int]) -> Iterator[tuple[int, int]]:
    """1, 2, 3, 7 → (1, 3), (7, 1)."""
    start = None
    for at, following in zip(offsets, [*offsets[1:], -1]):
        start = at if start is None else start
        if following != at + 1:
            yield start, at + 1 - start
            start = None


def _places(parsed: elf.Elf) -> _Places:
    """Everything that is not to be compared, of all sections."""
    places: _Places = defaultdict(list)
    for section in parsed.sections:
        if section.code:
            places[id(section)] += [_relocated(section, reloc) for reloc in section.relocs]
        for code, place in _listed(section):
            places[id(code)].append(place)
    return places


def _relocated(section: elf.Section, reloc: elf.Reloc) -> _Place:
    """The bytes of a relocation; of a branch that the kernel rewrites, the whole instruction."""
    length = _WIDTHS.get(reloc.type, 4)
    if not reloc.symbol.name.startswith(_REWRITTEN):
        return reloc.offset, length
    start = reloc.offset - 1
    if section.data[start] not in (_CALL, _JUMP):  # a conditional one: 0f 8x
        start -= 1
    if start and section.data[start - 1] == _CS_PREFIX:
        start -= 1
    return start, reloc.offset + length - start


def _listed(section: elf.Section) -> Iterator[tuple[elf.Section, _Place]]:
    """The places that a special section names."""
    if section.name == ".altinstructions":
        yield from _alternatives(section)
    elif section.name == ".parainstructions":
        for reloc, code, offset in _targets(section, 1):
            yield code, (offset, section.data[reloc.offset + _PARAVIRT_LEN])
    elif section.name == "__jump_table":
        for _reloc, code, offset in _targets(section, 3):
            yield code, (offset, _jump_label_length(code.data, offset))
    else:
        for name, length in _FIXED.items():
            if section.name.startswith(name):
                yield from ((code, (offset, length)) for _reloc, code, offset in _targets(section, 1))


def _targets(section: elf.Section, per_entry: int) -> Iterator[tuple[elf.Reloc, elf.Section, int]]:
    """The first relocation of each entry, with the place of code that it refers to."""
    for reloc in sorted(section.relocs, key=lambda reloc: reloc.offset)[::per_entry]:
        code = reloc.symbol.section
        if code is not None and code.code:
            yield reloc, code, reloc.symbol.value + reloc.addend


def _alternatives(section: elf.Section) -> Iterator[tuple[elf.Section, _Place]]:
    count = len(section.relocs) // 2
    if not count:
        return
    size = section.size // count
    if size not in _INSTRLEN or size * count != section.size:
        raise ElfError(f"{section.name}: entries of {size} bytes are not known; which kernel is this?")
    for reloc, code, offset in _targets(section, 2):
        yield code, (offset, section.data[reloc.offset + _INSTRLEN[size]])


def _jump_label_length(code: bytes, offset: int) -> int:
    """Short or long: objtool has made a nop of a jump, or of none (arch_jump_entry_size())."""
    return 2 if code[offset] == _SHORT_JUMP or code[offset : offset + 2] == _SHORT_NOP else 5
