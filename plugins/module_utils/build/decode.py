# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where x86-64 instructions begin and end, and where their branches go (Intel SDM volume 2, chapter 2, appendix A).

Lengths are all that is told of an instruction. One that is none, or of an extension that the kernel's compiler does not
use, has no length: nothing is guessed.
"""

from __future__ import annotations

from typing import NamedTuple

_PREFIXES = frozenset((0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x66, 0x67, 0xF0, 0xF2, 0xF3))
_OPERAND_SIZE, _ADDRESS_SIZE = 0x66, 0x67
_ESCAPE, _VEX2, _VEX3, _EVEX = 0x0F, 0xC5, 0xC4, 0x62
_LONGEST = 15

# What follows an opcode. Z is an immediate of 4 bytes, of 2 with the operand size prefix, V the same, of 8 with REX.W.
_NONE, _MODRM, _BYTE, _MODRM_BYTE, _Z, _MODRM_Z, _V, _WORD, _REL8, _REL32, _OTHER, _INVALID = range(12)


def _one_byte() -> list[int]:
    """Opcodes of one byte (table A-2)."""
    found = [_NONE] * 256
    for group in range(0, 0x40, 8):
        found[group : group + 8] = [_MODRM] * 4 + [_BYTE, _Z, _INVALID, _INVALID]
    for opcodes, kind in (
        ((0x63, *range(0x84, 0x90), *range(0xD0, 0xD4), *range(0xD8, 0xE0), 0xFE, 0xFF), _MODRM),
        ((0x6B, 0x80, 0x83, 0xC0, 0xC1, 0xC6), _MODRM_BYTE),
        ((0x69, 0x81, 0xC7), _MODRM_Z),
        ((0x6A, 0xA8, *range(0xB0, 0xB8), 0xCD, *range(0xE4, 0xE8)), _BYTE),
        ((0x68, 0xA9), _Z),
        (range(0xB8, 0xC0), _V),
        ((0xC2, 0xCA), _WORD),
        ((*range(0x70, 0x80), *range(0xE0, 0xE4), 0xEB), _REL8),
        ((0xE8, 0xE9), _REL32),
        ((*range(0xA0, 0xA4), 0xC8, 0xF6, 0xF7), _OTHER),
        ((0x60, 0x61, 0x82, 0x9A, 0xCE, 0xD4, 0xD5, 0xD6, 0xEA), _INVALID),
    ):
        for opcode in opcodes:
            found[opcode] = kind
    return found


def _two_bytes() -> list[int]:
    """Opcodes after 0F (table A-3)."""
    found = [_MODRM] * 256
    for opcodes, kind in (
        ((0x05, 0x06, 0x07, 0x08, 0x09, 0x0B, *range(0x30, 0x36), 0x37, 0x77), _NONE),
        ((0xA0, 0xA1, 0xA2, 0xA8, 0xA9, 0xAA, *range(0xC8, 0xD0)), _NONE),
        ((*range(0x70, 0x74), 0xA4, 0xAC, 0xBA, 0xC2, 0xC4, 0xC5, 0xC6), _MODRM_BYTE),
        (range(0x80, 0x90), _REL32),
        ((0x04, 0x0A, 0x0C, 0x0E, 0x0F, *range(0x24, 0x28), 0x36, *range(0x39, 0x40), 0x7A, 0x7B), _INVALID),
    ):
        for opcode in opcodes:
            found[opcode] = kind
    return found


_MAPS = {1: _two_bytes(), 2: [_MODRM] * 256, 3: [_MODRM_BYTE] * 256}
_ONE_BYTE = _one_byte()


class Branch(NamedTuple):
    """A jump or a call to a place that is told by its distance: where the distance stands, how wide, and the place."""

    field: int
    width: int
    target: int


class UnknownInstructionError(Exception):
    """What is there is no instruction that is known here."""


def branches(code: bytes, start: int, end: int) -> list[Branch]:
    """The branches from *start* to *end*, between which are whole instructions; UnknownInstructionError if not."""
    found = []
    while start < end:
        length, width = _instruction(code[start : min(end, start + _LONGEST)])
        start += length
        if width:
            field = start - width
            target = start + int.from_bytes(code[field:start], "little", signed=True)
            found.append(Branch(field, width, target))
    return found


def _instruction(code: bytes) -> tuple[int, int]:
    """The length of the instruction that *code* begins with, and how wide its branch distance is; 0 if it has none."""
    try:
        length, width = _Reader(code).instruction()
    except IndexError:
        raise UnknownInstructionError from None
    if length > len(code):
        raise UnknownInstructionError
    return length, width


class _Reader:
    """Goes through the bytes of one instruction; an IndexError says that it is longer than they are."""

    def __init__(self, code: bytes) -> None:
        self._code, self._at = code, 0
        self._narrow = self._short_address = self._wide = False

    def _next(self) -> int:
        self._at += 1
        return self._code[self._at - 1]

    def instruction(self) -> tuple[int, int]:
        """Its length and the width of its branch distance."""
        opcode = self._next()
        while opcode in _PREFIXES:
            self._narrow |= opcode == _OPERAND_SIZE
            self._short_address |= opcode == _ADDRESS_SIZE
            opcode = self._next()
        if opcode & 0xF0 == 0x40:
            self._wide = bool(opcode & 8)
            opcode = self._next()
        elif opcode in (_VEX2, _VEX3, _EVEX):
            return self._vector(opcode)
        if opcode != _ESCAPE:
            return self._rest(opcode, _ONE_BYTE[opcode])
        opcode = self._next()
        if opcode in (0x38, 0x3A):
            self._next()
            return self._rest(opcode, _MODRM if opcode == 0x38 else _MODRM_BYTE)
        return self._rest(opcode, _MAPS[1][opcode])

    def _vector(self, prefix: int) -> tuple[int, int]:
        """VEX and EVEX name the opcode's map in their second byte."""
        second = self._next()
        which = 1 if prefix == _VEX2 else second & (0x1F if prefix == _VEX3 else 0x07)
        self._at += {_VEX2: 0, _VEX3: 1, _EVEX: 2}[prefix]
        opcode = self._next()
        if which not in _MAPS or _MAPS[which][opcode] in (_INVALID, _REL32):
            raise UnknownInstructionError
        return self._rest(opcode, _MAPS[which][opcode])

    def _rest(self, opcode: int, kind: int) -> tuple[int, int]:
        if kind == _INVALID or (self._narrow and kind == _REL32):  # processors differ in how long that is
            raise UnknownInstructionError
        if kind in (_MODRM, _MODRM_BYTE, _MODRM_Z):
            self._modrm()
        elif kind == _OTHER:
            left = self._other(opcode)
            return self._at + left, 0
        width = {_REL8: 1, _REL32: 4}.get(kind, 0)
        return self._at + width + self._immediate(kind), width

    def _immediate(self, kind: int) -> int:
        if kind in (_BYTE, _MODRM_BYTE):
            return 1
        if kind == _V and self._wide:
            return 8
        if kind in (_Z, _MODRM_Z, _V):
            return 2 if self._narrow and not self._wide else 4
        return 2 if kind == _WORD else 0

    def _other(self, opcode: int) -> int:
        """How many bytes are left of: mov to and from an absolute address, enter, test and its like."""
        if opcode in (0xF6, 0xF7):
            modrm = self._modrm()
            return self._immediate(_BYTE if opcode == 0xF6 else _Z) if modrm & 0x30 == 0 else 0
        if opcode == 0xC8:
            return 3
        return 4 if self._short_address else 8

    def _modrm(self) -> int:
        """The ModRM byte; what it says of a memory operand is passed over, too (table 2-2)."""
        modrm = self._next()
        mode, register = modrm >> 6, modrm & 7
        if mode == 3:
            return modrm
        base = self._next() & 7 if register == 4 else register
        self._at += {0: 4 if base == 5 else 0, 1: 1, 2: 4}[mode]
        return modrm
