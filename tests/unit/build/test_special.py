# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The special sections. An entry that is cut wrong patches the kernel's text at a random place."""

from __future__ import annotations

import re
import subprocess

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils.build import btf
from ansible_collections.kpatch.fleet.plugins.module_utils.build import elf as e
from ansible_collections.kpatch.fleet.plugins.module_utils.build.instruction import is_load, load_instead
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import ElfError
from ansible_collections.kpatch.fleet.plugins.module_utils.build.pieces import Parts
from ansible_collections.kpatch.fleet.plugins.module_utils.build.special import Entries, stays_whole
from object_files import Pair, readelf

# struct exception_table_entry up to 5.15 has a handler, from 5.16 on a type; both are 12 bytes. Before 4.6: 8.
HANDLER, TYPE, NEITHER = ".long handler - .", ".long 3", ""
EXCEPTION = """
extern int handler(void);
#define MAY_FAULT(text) asm volatile("1: mov (%%rax),%%rax\\n2:\\n" \\
    ".pushsection .fixup,\\"ax\\"\\n3: mov $" text ",%%eax\\njmp 2b\\n.popsection\\n" \\
    ".pushsection __ex_table,\\"a\\"\\n.long 1b - .\\n.long 3b - .\\nLAST\\n.popsection" : : : "rax", "memory")
int first(int x) { MAY_FAULT("1"); return exported("first", x); }
int second(int x) { MAY_FAULT("2"); MAY_FAULT("3"); return exported("second", x); }
"""


@pytest.mark.parametrize("last", [HANDLER, TYPE, NEITHER], ids=["a handler", "a type", "neither"])
def test_an_exception_and_its_fixup_belong_to_their_function(pair: Pair, last: str) -> None:
    before = EXCEPTION.replace("LAST", last)
    difference = pair.diff(before, before.replace('MAY_FAULT("2")', 'MAY_FAULT("4")'))
    assert not difference.refusals
    assert [(f.name, f.reason) for f in difference.changed] == [("second", "its entries in __ex_table changed")]


def entries(pair: Pair, source: str, sizes: dict[str, int]) -> list[tuple[str, int, int]]:
    parts = Parts(e.read(pair.compile("entries", source)), stays_whole)
    found = Entries(parts, "demo.c", sizes)
    return [
        (piece.name, entry.start, entry.end)
        for piece in parts
        for entry in found.of(piece)
        if entry.section.name != "__mcount_loc"
    ]


def test_what_the_kernel_says_is_what_relocations_tell(pair: Pair) -> None:
    source = EXCEPTION.replace("LAST", HANDLER)
    told = entries(pair, source, {})
    assert told == entries(pair, source, {"__ex_table": 12})
    assert told == [("first", 0, 12), ("second", 12, 24), ("second", 24, 36)]


def test_entries_of_another_size_than_the_kernel_s_are_an_error(pair: Pair) -> None:
    with pytest.raises(ElfError, match=r"demo.c: __ex_table: .* not known to this builder"):
        entries(pair, EXCEPTION.replace("LAST", HANDLER), {"__ex_table": 16})


# struct jump_entry before 4.19: three pointers.
OLD_BRANCH = """
int key[4];
#define BRANCH(key) ({ __label__ yes; int r = 0; \\
    asm goto("1: .byte 0x0f,0x1f,0x44,0,0\\n.pushsection __jump_table,\\"aw\\"\\n" \\
    ".quad 1b, %l[yes], %c0\\n.popsection" : : "i" (key) : : yes); if (0) { yes: r = 1; } r; })
int first(int x) { return BRANCH(key) + BRANCH(key + 1) + x; }
"""


def test_entries_of_three_pointers(pair: Pair) -> None:
    assert entries(pair, OLD_BRANCH, {}) == [("first", 0, 24), ("first", 24, 48)]


LAYOUTS = """
struct bug_entry { int address, file; unsigned short line, flags; };
struct alt_instr { int where, instead; unsigned id; unsigned char old, new; } __attribute__((packed));
struct bug_entry bug; struct alt_instr alternative;
"""


def test_sizes_come_from_the_kernel_s_own_types(pair: Pair) -> None:
    path = pair.compile("types", LAYOUTS, "-g")
    assert btf.entry_sizes(path) == {}
    subprocess.run(["pahole", "-J", path], check=True)
    assert btf.entry_sizes(path) == {"__bug_table": 12, ".altinstructions": 14}


def test_damaged_types_are_named() -> None:
    with pytest.raises(ElfError, match="vmlinux: .BTF is damaged"):
        btf.Types(memoryview(b"\x9f\xeb\x01"), "vmlinux")
    header = bytes.fromhex("9feb0100 18000000 00000000 0c000000 0c000000 01000000")
    with pytest.raises(ElfError, match="a name at 255"):
        btf.Types(memoryview(header + bytes.fromhex("ff000000 00000004 04000000 00")), "vmlinux").sizes([])
    with pytest.raises(ElfError, match="its last type is cut off"):
        btf.Types(memoryview(header + bytes.fromhex("00000000 01000004 04000000 00")), "vmlinux").sizes([])


# runtime_const_ptr() and runtime_const_shift_right_32() of arch/x86/include/asm/runtime-const.h, 6.12.
RUNTIME = """
unsigned long limit;
#define POINTER(sym) ({ unsigned long r; asm("mov %1,%0\\n1:\\n.pushsection runtime_ptr_" #sym ",\\"a\\"\\n" \\
    ".long 1b - 8 - .\\n.popsection" : "=r" (r) : "i" (0x0123456789abcdef)); r; })
#define SHIFT(val, sym) ({ unsigned r = (val); asm("shrl $12,%k0\\n1:\\n.pushsection runtime_shift_" #sym \\
    ",\\"a\\"\\n.long 1b - 1 - .\\n.popsection" : "+r" (r)); r; })
int first(unsigned long x) { if (x > POINTER(limit)) return exported("big", x); return hidden("small", x); }
"""


def test_a_runtime_constant_is_read_from_its_variable(pair: Pair) -> None:
    difference = pair.diff(RUNTIME, RUNTIME.replace("x >", "x >="))
    assert not difference.refusals
    _emitted, path = pair.emit(difference)
    command = ["objdump", "-dr", "--no-show-raw-insn", str(path)]
    code = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert re.search(r"mov +0x0\(%rip\),%r\w+.*\n.*R_X86_64_PC32\s+\.klp\.sym\.vmlinux\.limit,0-0x4\n.*nopl", code)
    assert "movabs" not in code
    (text,) = [section for section in e.read(path).sections if section.name == ".text"]
    (field,) = [reloc.offset for reloc in text.relocs if reloc.symbol.name == ".klp.sym.vmlinux.limit,0"]
    assert text.data[field - 2] == 0x8B
    assert text.data[field : field + 7] == bytes.fromhex("00000000 0f1f00")
    assert "runtime_" not in readelf(path, "-S")


def test_another_runtime_constant_is_a_change(pair: Pair) -> None:
    before = RUNTIME + "unsigned long other;"
    difference = pair.diff(before, before.replace("POINTER(limit)", "POINTER(other)"))
    assert [function.name for function in difference.changed] == ["first"]


def test_a_shift_leaves_no_room_to_read(pair: Pair) -> None:
    before = RUNTIME.replace("hidden(", "hidden(SHIFT(x, limit) + ")
    (refusal,) = pair.diff(before, before.replace("x >", "x >=")).refusals
    assert refusal.function == "first"
    assert "value of limit" in refusal.reason


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("48b8 efcdab8967452301", "488b05 00000000 0f1f00"),  # %rax
        ("48b9 efcdab8967452301", "488b0d 00000000 0f1f00"),  # %rcx
        ("49bf efcdab8967452301", "4c8b3d 00000000 0f1f00"),  # %r15
    ],
)
def test_a_load_instead_of_a_constant(code: str, expected: str) -> None:
    assert load_instead(bytes.fromhex(code), 2) == bytes.fromhex(expected)


@pytest.mark.parametrize(
    ("code", "at", "expected"),
    [
        ("8b05 00000000", 2, True),  # mov x(%rip),%eax
        ("488d05 00000000", 3, False),  # lea x(%rip),%rax
        ("8b0485 00000000", 3, True),  # mov x(,%rax,4),%eax
        ("ff14c5 00000000", 3, True),  # call *x(,%rax,8)
        ("0fb680 00000000", 3, True),  # movzbl x(%rax),%eax
        ("488d04c5 00000000", 4, False),  # lea x(,%rax,8),%rax
        ("48c7c7 00000000", 3, False),  # mov $x,%rdi
        ("bf 00000000", 1, False),  # mov $x,%edi
        ("4805 00000000", 2, False),  # add $x,%rax
        ("4881c7 00000000", 3, False),  # add $x,%rdi
    ],
)
def test_what_reads_through_memory(code: str, at: int, expected: bool) -> None:
    assert is_load(bytes.fromhex(code), at) is expected


def test_a_section_that_nobody_knows_is_refused(pair: Pair) -> None:
    before = 'int first(int x) { asm("1: .pushsection odd_table,\\"a\\"\\n.quad 1b\\n.popsection"); return x; }'
    (refusal,) = pair.diff(before, before.replace("return x", "return -x")).refusals
    assert "odd_table" in refusal.reason
