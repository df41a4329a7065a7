# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""As much of x86-64's instruction encoding as telling what a PC-relative relocation points to needs.

The processor counts from the end of the instruction, the relocation from the field that it changes: where an
immediate operand follows the field, the addend hides 5, 6 or 8 bytes and not 4 (Intel SDM volume 2, 2.2.1.6).
"""

from __future__ import annotations

from collections.abc import Iterator

_IMMEDIATE_8 = {0x6B, 0x80, 0x82, 0x83, 0xC0, 0xC1, 0xC6}
_IMMEDIATE_32 = {0x69, 0x81, 0xC7}
_TEST_8, _TEST_32 = 0xF6, 0xF7  # an immediate only if the ModRM byte says TEST
_ESCAPE = 0x0F
_SHORT_JUMP = 0xEB
_ESCAPED_IMMEDIATE_8 = {0x70, 0xA4, 0xAC, 0xBA, 0xC2, 0xC4, 0xC5, 0xC6}


def field_bias(code: bytes, offset: int) -> int:
    """What the addend of a PC-relative relocation at *offset* contains besides the distance: -4, -5, -6 or -8."""
    return -4 - _immediate(code, offset)


def is_branch(code: bytes, offset: int) -> bool:
    """Whether the 32-bit field at *offset* is the target of a call or a jump."""
    before = code[offset - 1] if offset else 0
    escaped = offset > 1 and code[offset - 2] == _ESCAPE
    return before in (0xE8, 0xE9) or (escaped and 0x80 <= before <= 0x8F)


def branch_targets(code: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Where each branch from *start* to *end* of a section goes that may be one: its field, and its target's offset.

    Instructions are not taken apart: what is a branch here may be part of another one.
    """
    for field in range(start + 1, end):
        if field + 4 <= end and is_branch(code, field):
            yield field, field + 4 + int.from_bytes(code[field : field + 4], "little", signed=True)
        elif code[field - 1] == _SHORT_JUMP:
            yield field, field + 1 + int.from_bytes(code[field : field + 1], "little", signed=True)


def _immediate(code: bytes, offset: int) -> int:
    """The size of the immediate operand after the field; 0 unless the operand is relative to RIP."""
    if offset < 2 or code[offset - 1] & 0xC7 != 0x05:
        return 0
    modrm, opcode = code[offset - 1], code[offset - 2]
    if offset > 2 and code[offset - 3] == _ESCAPE:
        return 1 if opcode in _ESCAPED_IMMEDIATE_8 else 0
    is_test = modrm & 0x30 == 0
    if opcode in _IMMEDIATE_8 or (opcode == _TEST_8 and is_test):
        return 1
    if opcode in _IMMEDIATE_32 or (opcode == _TEST_32 and is_test):
        return 2 if _operand_size_prefix(code, offset - 3) else 4
    return 0


def _operand_size_prefix(code: bytes, at: int) -> bool:
    """Whether the byte at *at*, or the one before the REX prefix there, is 66."""
    if at < 0:
        return False
    if 0x40 <= code[at] <= 0x4F:
        return not code[at] & 0x08 and at > 0 and code[at - 1] == 0x66
    return code[at] == 0x66


def loaded_constant(code: bytes, at: int) -> tuple[int, int] | None:
    """From where to where the constant goes that the byte at *at* is part of, if it is loaded into a register or passed
    on the stack; None if it is none."""
    if code[at - 1 : at] == b"\x6a":  # push $5
        return at, at + 1
    for field in range(at, max(at - 4, 0), -1):
        before = code[max(0, field - 4) : field]
        if 0xB8 <= before[-1] <= 0xBF or before[-1] == 0x68:  # mov $x,%edx; push $x
            return field, field + 4
        if before[-3:] == b"\xc7\x04\x24" or before[:-1] == b"\xc7\x44\x24":  # movl $x,8(%rsp)
            return field, field + 4
    return None


def is_load(code: bytes, offset: int) -> bool:
    """Whether the 32-bit field at *offset* is where an instruction reads or jumps to through memory, and not an address
    that it hands on: table(,%rax,8) and table(%rip), unless of a lea."""
    if offset < 2:
        return False
    relative = code[offset - 1] & 0xC7 == 0x05
    based = code[offset - 1] & 0xC0 == 0x80 and code[offset - 1] & 0x07 != 0x04
    indexed = code[offset - 2] & 0xC7 in (0x04, 0x84)
    return ((relative or based) and _reads(code, offset - 1)) or (indexed and _reads(code, offset - 2))


def _reads(code: bytes, modrm: int) -> bool:
    """Whether the instruction whose ModRM byte is at *modrm* reads its memory operand."""
    return code[modrm - 1 : modrm] in _READING or code[max(0, modrm - 2) : modrm] in _READING


# mov, movsxd, cmp, test, call and jmp through memory; movzx and movsx.
_READING = {
    *(bytes((opcode,)) for opcode in (0x8A, 0x8B, 0x63, 0x38, 0x39, 0x3A, 0x3B, 0x80, 0x81, 0x83, 0x84, 0x85, 0xFF)),
    *(bytes((0x0F, opcode)) for opcode in (0xB6, 0xB7, 0xBE, 0xBF)),
}


def load_instead(code: bytes, field: int) -> bytes | None:
    """`mov x(%rip),%reg`, padded to 10 bytes, instead of the `movabs $x,%reg` whose constant is at *field*.

    The relocation of x goes to LOAD_FIELD. None if it is no such instruction.
    """
    if field < 2 or code[field - 2] not in (0x48, 0x49) or not 0xB8 <= code[field - 1] <= 0xBF:
        return None
    prefix = 0x48 | (code[field - 2] & 1) << 2  # the register's high bit: REX.B there, REX.R here
    register = code[field - 1] & 7
    return bytes((prefix, 0x8B, 0x05 | register << 3, 0, 0, 0, 0, 0x0F, 0x1F, 0x00))


LOAD_FIELD = 3
