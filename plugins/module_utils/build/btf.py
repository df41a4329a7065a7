# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The types that a kernel, or an object, describes in its .BTF section (Documentation/bpf/btf.rst).

Two things are wanted of it: how big the entries of a kernel's special sections are, and how its structs are laid out.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.kpatch.fleet.plugins.module_utils.build import elf as e
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import ElfError

_HEADER = struct.Struct("<HBBIIIII")
_TYPE = struct.Struct("<III")
_MEMBER = struct.Struct("<III")
_ENUMERATOR = struct.Struct("<Ii")
_MAGIC = 0xEB9F

_INT, _POINTER, _ARRAY, _STRUCT, _UNION, _ENUM, _FORWARD, _TYPEDEF = 1, 2, 3, 4, 5, 6, 7, 8
_VOLATILE, _CONST, _RESTRICT, _FUNCTION, _PROTOTYPE, _VARIABLE, _SECTION = 9, 10, 11, 12, 13, 14, 15
_ENUM64 = 19
# What follows a type: so many bytes, and so many for each of its members.
_TAIL = {
    _INT: (4, 0),
    _ARRAY: (12, 0),
    _STRUCT: (0, 12),
    _UNION: (0, 12),
    _ENUM: (0, 8),
    _PROTOTYPE: (0, 8),
    _VARIABLE: (4, 0),
    _SECTION: (0, 12),
    17: (4, 0),
    _ENUM64: (0, 12),
}
_QUALIFIERS = {_CONST: "const ", _VOLATILE: "volatile ", _RESTRICT: "restrict "}
_DEEPEST = 32

# The structs of which the special sections are arrays.
_ENTRIES = {
    ".altinstructions": "alt_instr",
    "__bug_table": "bug_entry",
    "__ex_table": "exception_table_entry",
    "__jump_table": "jump_entry",
    ".parainstructions": "paravirt_patch_site",
    ".static_call_sites": "static_call_site",
    ".orc_unwind": "orc_entry",
}


@dataclass(frozen=True)
class Member:
    """A member of a struct or union; offset and width are in bits, width is 0 unless it is a bit-field."""

    name: str
    type: str
    offset: int
    width: int


@dataclass(frozen=True)
class Struct:
    """A struct or union."""

    name: str
    size: int
    members: tuple[Member, ...]


@dataclass(frozen=True)
class _Type:
    name: str
    kind: int
    count: int
    flag: bool
    size: int  # or the type that it refers to
    tail: int  # where what follows it begins


def entry_sizes(path: Path) -> dict[str, int]:
    """The sizes of the special sections' entries, by section, as far as the kernel at *path* describes them."""
    types = read(path)
    if types is None:
        return {}
    sizes = types.sizes(_ENTRIES.values())
    return {section: sizes[name] for section, name in _ENTRIES.items() if name in sizes}


def read(path: Path) -> Types | None:
    """The types of an ELF file; None if it describes none."""
    try:
        image = memoryview(path.read_bytes())
    except OSError as error:
        raise ElfError(f"{path}: can't be read: {error.strerror}") from error
    for header in e.headers(path, image, (e.ET_REL, e.ET_EXEC, e.ET_DYN)):
        if header.name == ".BTF" and header.type != e.SHT_NOBITS:
            return Types(image[header.offset : header.offset + header.size], str(path))
    return None


class Types:
    """The types of one .BTF section."""

    def __init__(self, data: memoryview, where: str) -> None:
        self._where = where
        try:
            magic, _version, _flags, start, types, size, strings, length = _HEADER.unpack_from(data)
            if magic != _MAGIC:
                raise self._damaged("it does not begin as BTF does")
            self._strings = bytes(data[start + strings : start + strings + length])
            self._data = data[start + types : start + types + size]
            self._types = list(self._walk())
        except struct.error as error:
            raise self._damaged(str(error)) from error

    def sizes(self, names: Iterable[str]) -> dict[str, int]:
        """The sizes of the structs of these names."""
        wanted = set(names)
        return {t.name: t.size for t in self._types if t.kind == _STRUCT and t.name in wanted}

    def structs(self) -> dict[str, Struct]:
        """All structs and unions that have a name, by `struct name`."""
        words = {_STRUCT: "struct", _UNION: "union"}
        return {f"{words[t.kind]} {t.name}": self._struct(t) for t in self._types if t.kind in words and t.name}

    def enums(self) -> dict[str, dict[str, int]]:
        """The enumerators of all enums that have a name."""
        return {f"enum {t.name}": self._enumerators(t) for t in self._types if t.kind == _ENUM and t.name}

    def _enumerators(self, enum: _Type) -> dict[str, int]:
        values = {}
        for number in range(enum.count):
            name, value = _ENUMERATOR.unpack_from(self._data, enum.tail + number * _ENUMERATOR.size)
            values[self._text(name)] = value
        return values

    def _damaged(self, what: str) -> ElfError:
        return ElfError(f"{self._where}: .BTF is damaged: {what}")

    def _walk(self) -> Iterable[_Type]:
        at, data = 0, self._data
        while at < len(data):
            name, info, size = _TYPE.unpack_from(data, at)
            kind, count = info >> 24 & 0x1F, info & 0xFFFF
            fixed, each = _TAIL.get(kind, (0, 0))
            yield _Type(self._text(name), kind, count, bool(info >> 31), size, at + _TYPE.size)
            at += _TYPE.size + fixed + each * count
        if at > len(data):
            raise self._damaged("its last type is cut off")

    def _text(self, offset: int) -> str:
        if not offset:
            return ""
        end = self._strings.find(b"\0", offset)
        if end < 0:
            raise self._damaged(f"a name at {offset} is outside of its strings")
        return self._strings[offset:end].decode("utf-8", "surrogateescape")

    def _struct(self, composed: _Type) -> Struct:
        members = []
        for number in range(composed.count):
            name, kind, place = _MEMBER.unpack_from(self._data, composed.tail + number * _MEMBER.size)
            offset, width = (place & 0xFFFFFF, place >> 24) if composed.flag else (place, 0)
            members.append(Member(self._text(name), self._spelt(kind), offset, width))
        return Struct(composed.name, composed.size, tuple(members))

    def _spelt(self, number: int, depth: int = 0) -> str:
        """A type as C would name it, near enough to tell two of them apart."""
        if number == 0:
            return "void"
        if number > len(self._types) or depth > _DEEPEST:
            raise self._damaged(f"it refers to type {number}")
        found = self._types[number - 1]
        if found.kind in _QUALIFIERS:
            return _QUALIFIERS[found.kind] + self._spelt(found.size, depth + 1)
        if found.kind == _POINTER:
            return self._spelt(found.size, depth + 1) + " *"
        if found.kind == _ARRAY:
            element, _index, count = _MEMBER.unpack_from(self._data, found.tail)
            return f"{self._spelt(element, depth + 1)}[{count}]"
        if found.kind in (_STRUCT, _UNION, _FORWARD):
            return self._composed(found, depth)
        return found.name or "function"

    def _composed(self, found: _Type, depth: int) -> str:
        what = "union" if found.kind == _UNION or (found.kind == _FORWARD and found.flag) else "struct"
        if found.name or found.kind == _FORWARD:
            return f"{what} {found.name}"
        members = []
        for number in range(found.count):
            name, kind, place = _MEMBER.unpack_from(self._data, found.tail + number * _MEMBER.size)
            members.append(f"{self._spelt(kind, depth + 1)} {self._text(name)}@{place}")
        return f"{what} {{{'; '.join(members)}}}"
