# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading and writing ELF: nothing may be lost on the way, and a damaged file may not end in a traceback."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils.build import elf as e
from ansible_collections.kpatch.fleet.plugins.module_utils.build.elfwrite import write
from ansible_collections.kpatch.fleet.plugins.module_utils.build.instruction import field_bias, is_branch
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import ElfError
from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection
from elftools.elf.sections import SymbolTableSection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from object_files import Pair, readelf

NAMES = st.text("abcdefgh._$", min_size=1, max_size=12)

BINDS = st.sampled_from([0, 1, 2])


@st.composite
def objects(draw: st.DrawFn) -> e.Elf:
    """A small relocatable object."""
    sections = [
        e.Section("." + name, flags=draw(st.sampled_from([2, 3, 6])), align=draw(st.sampled_from([1, 4, 16])),
                  data=data, size=len(data))
        for name, data in draw(st.lists(st.tuples(NAMES, st.binary(min_size=1, max_size=64)), min_size=1, max_size=5))
    ]  # fmt: skip
    symbols = [
        e.Symbol(draw(NAMES), draw(st.integers(0, place.size if place else 2**32)), bind=bind, section=place)
        for place, bind in draw(st.lists(st.tuples(st.sampled_from([None, *sections]), BINDS), min_size=1, max_size=8))
    ]
    for section in sections:
        offsets = draw(st.lists(st.integers(0, section.size - 1), max_size=4))
        section.relocs = [
            e.Reloc(offset, draw(st.sampled_from([1, 2, 4, 10, 11])), draw(st.sampled_from(symbols)), offset - 7)
            for offset in offsets
        ]
    return e.Elf(sections, symbols)


def told(elf: e.Elf) -> list[object]:
    """All that an object says, without the order of its symbols."""
    sections = [
        (
            s.name,
            s.flags,
            s.align,
            s.data,
            [(r.offset, r.type, r.symbol.name, r.symbol.value, r.addend) for r in s.relocs],
        )
        for s in elf.sections
    ]
    names = sorted((s.name, s.value, s.bind, s.section.name if s.section else "") for s in elf.symbols)
    return [sections, names]


@given(elf=objects())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read_again(tmp_path: Path, elf: e.Elf) -> None:
    path = tmp_path / "object.o"
    write(elf, path)
    assert told(e.read(path)) == told(elf)


def test_a_compiled_object_survives(pair: Pair) -> None:
    original = pair.compile("original", 'int f(int x) { static int n; return exported("f %d", n += x); }')
    copy = pair.folder / "copy.o"
    write(e.read(original), copy)
    assert told(e.read(copy)) == told(e.read(original))
    readelf(copy, "-a")


@given(cut=st.integers(0, 2000), at=st.integers(0, 2000), byte=st.integers(0, 255))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damage_is_named(tmp_path: Path, cut: int, at: int, byte: int) -> None:
    path = tmp_path / "object.o"
    section = e.Section(".text", flags=6, data=bytes(16), size=16)
    symbol = e.Symbol("f", bind=1, section=section)
    section.relocs = [e.Reloc(4, e.R_PC32, symbol, -4)]
    write(e.Elf([section], [symbol]), path)
    image = bytearray(path.read_bytes())
    image[at % len(image)] = byte
    path.write_bytes(image[: len(image) - cut % len(image)])
    with contextlib.suppress(ElfError):
        e.read(path)


def header_of(path: Path, index: int, field: int, value: int) -> None:
    """Change one field of a section header."""
    image = bytearray(path.read_bytes())
    start = e.EHDR.unpack_from(image)[6] + index * e.SHDR.size
    fields = list(e.SHDR.unpack_from(image, start))
    fields[field] = value
    e.SHDR.pack_into(image, start, *fields)
    path.write_bytes(image)


@pytest.mark.parametrize(
    ("field", "value", "what"),
    [(5, 1 << 40, "ends outside"), (8, 1 << 40, "aligned"), (8, 3, "aligned"), (1, e.SHT_NOBITS, "stores nothing")],
)
def test_sizes_out_of_proportion_are_damage(tmp_path: Path, field: int, value: int, what: str) -> None:
    """They would take all memory, or for ever."""
    path = tmp_path / "object.o"
    write(e.Elf([e.Section(".text", flags=6, data=bytes(16), size=16)], []), path)
    header_of(path, 1, field, value)
    with pytest.raises(ElfError, match=what):
        e.read(path)


def test_sections_that_overlap_are_damage(tmp_path: Path) -> None:
    """Thousands of headers could each claim the whole file."""
    path = tmp_path / "object.o"
    write(e.Elf([e.Section(f".{n}", data=bytes(600), size=600) for n in range(3)], []), path)
    for index in (1, 2, 3):
        header_of(path, index, 4, 64)
        header_of(path, index, 5, 1500)
    with pytest.raises(ElfError, match="overlap"):
        e.read(path)


def test_another_reader_sees_the_same(pair: Pair) -> None:
    source = 'int f(int x) { static int n; WARN(); return exported("f %d", n += x); }'
    path = pair.folder / "copy.o"
    ours = e.read(pair.compile("original", source))
    write(ours, path)
    with path.open("rb") as stream:
        theirs = ELFFile(stream)
        symbols = theirs.get_section_by_name(".symtab")
        assert isinstance(symbols, SymbolTableSection)
        names = [section.name for section in theirs.iter_sections()]
        for section in ours.sections:
            found = theirs.get_section_by_name(section.name)
            assert names.count(section.name) > 1 or not section.data or (found and found.data() == section.data)
        relocations = [
            (names[table["sh_info"]], entry["r_offset"], entry["r_info_type"], entry["r_addend"], value["st_value"])
            for table in theirs.iter_sections("SHT_RELA")
            if isinstance(table, RelocationSection)
            for entry in table.iter_relocations()
            for value in [symbols.get_symbol(entry["r_info_sym"])]
        ]
    assert sorted(relocations) == sorted(
        (section.name, reloc.offset, reloc.type, reloc.addend, reloc.symbol.value)
        for section in ours.sections
        for reloc in section.relocs
    )


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ElfError, match="can't be read"):
        e.read(tmp_path / "none.o")


@pytest.mark.parametrize(
    ("code", "at", "bias"),
    [
        ("8b05 00000000", 2, -4),  # mov x(%rip),%eax
        ("833d 00000000 05", 2, -5),  # cmpl $5,x(%rip)
        ("813d 00000000 78563412", 2, -8),  # cmpl $0x12345678,x(%rip)
        ("66813d 00000000 3412", 3, -6),  # cmpw $0x1234,x(%rip)
        ("48c705 00000000 01000000", 3, -8),  # movq $1,x(%rip)
        ("c605 00000000 01", 2, -5),  # movb $1,x(%rip)
        ("f00fc105 00000000", 4, -4),  # lock xadd %eax,x(%rip)
        ("f605 00000000 01", 2, -5),  # testb $1,x(%rip)
        ("f71d 00000000", 2, -4),  # negl x(%rip)
        ("0fba25 00000000 03", 3, -5),  # btl $3,x(%rip)
        ("e8 00000000", 1, -4),  # call
    ],
)
def test_where_a_field_counts_from(code: str, at: int, bias: int) -> None:
    assert field_bias(bytes.fromhex(code), at) == bias


@pytest.mark.parametrize(
    ("code", "at", "expected"), [("e800", 1, True), ("e900", 1, True), ("0f8500", 2, True), ("488d0500", 3, False)]
)
def test_what_is_a_branch(code: str, at: int, expected: bool) -> None:
    assert is_branch(bytes.fromhex(code), at) is expected
