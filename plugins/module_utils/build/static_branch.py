# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Static branches on a key of the module that is being patched: the code tests the key, which may be there only later.

The kernel makes a jump of a nop, or a nop of a jump, where a module says so when it is loaded (__jump_table,
kernel/jump_label.c). A patch module can't say it of a key that is nowhere yet. Instead the place jumps to a test of the
key at the end of its function, as static_key_enabled() makes it; the key is found by relocation like any variable.
That takes a place of five bytes. From 5.14 on the assembler may make it two: such a file is compiled once more with a
header that asks for the long form.
"""

from __future__ import annotations

import re
from pathlib import Path

from ansible_collections.kpatch.fleet.plugins.module_utils.build import elf as e
from ansible_collections.kpatch.fleet.plugins.module_utils.build.overlay import SOURCE
from ansible_collections.kpatch.fleet.plugins.module_utils.build.source_patch import read_text, write_text

ROOM = "room"  # the directory of a workplace that is looked into before the kernel's own headers
_HEADER = "arch/x86/include/asm/jump_label.h"
_SHORT_OR_LONG = re.compile(r'\bjmp (?=%l\[l_yes\]|" label ")')  # 7.2 has it in a macro

_LONG_NOP, _JUMP = b"\x0f\x1f\x44\x00\x00", b"\xe9"
_LENGTH = 5
# cmpl $0, key(%rip); jne label, or je; jmp back
_TEST = b"\x83\x3d\x00\x00\x00\x00\x00\x0f\x85\x00\x00\x00\x00\xe9\x00\x00\x00\x00"
_KEY, _CONDITION, _LABEL, _BACK = 2, 8, 9, 14
_UNLESS = 0x84  # je
KEY_ADDEND = -5  # the processor counts from the end of the cmpl, behind its operand
_BREAKPOINT = b"\xcc"  # between the function's end, of which ORC has an entry, and the test, which gets another


def make_room(place: Path) -> None:
    """Put into a workplace the header with which static branches are long."""
    header = place / SOURCE / _HEADER
    if header.is_file():
        (place / ROOM / "asm").mkdir(parents=True)
        write_text(place / ROOM / "asm" / header.name, _SHORT_OR_LONG.sub("jmp.d32 ", read_text(header)))


def has_room(code: bytes, at: int) -> bool:
    """Whether the static branch at *at* is a long one."""
    return code[at : at + _LENGTH] == _LONG_NOP or code[at : at + 1] == _JUMP


def append_test(section: e.Section, at: int, inverted: bool) -> tuple[int, int, int]:
    """Let the branch at *at* of a function's section go to a test at its end; *inverted* jumps while the key is off.

    What is returned are the offsets of the test, and in it of the fields for the key and for where it jumps to.
    """
    start = len(section.data) + len(_BREAKPOINT)
    code = bytearray(section.data + _BREAKPOINT + _TEST)
    code[at : at + _LENGTH] = _JUMP + _distance(at + _LENGTH, start)
    if inverted:
        code[start + _CONDITION] = _UNLESS
    code[start + _BACK :] = _distance(len(code), at + _LENGTH)
    section.data, section.size = bytes(code), len(code)
    section.relocs = [reloc for reloc in section.relocs if not at < reloc.offset < at + _LENGTH]
    return start, start + _KEY, start + _LABEL


def _distance(origin: int, target: int) -> bytes:
    return (target - origin).to_bytes(4, "little", signed=True)
