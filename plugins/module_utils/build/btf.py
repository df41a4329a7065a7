# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The types that a kernel describes in its .BTF section (Documentation/bpf/btf.rst).

One thing is wanted of it: how big the entries of a kernel's special sections are.
"""

from __future__ import annotations

import struct
from collections.abc import Container, Iterable, Iterator
from pathlib import Path

from ansible_collections.kpatch.fleet.plugins.module_utils.build import elf as e
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import ElfError

_HEADER = struct.Struct("<HBBIIIII")
_TYPE = struct.Struct("<III")
_MAGIC = 0xEB9F

_INT, _ARRAY, _STRUCT, _UNION, _ENUM, _PROTOTYPE, _VARIABLE, _SECTION = 1, 3, 4, 5, 6, 13, 14, 15
_DECLARATION, _ENUM64 = 17, 19
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
    _DECLARATION: (4, 0),
    _ENUM64: (0, 12),
}
# The same by kind, with the type itself: a kernel has a hundred thousand of them to step over.
_KINDS = range(32)
_FIXED = [_TYPE.size + _TAIL.get(kind, (0, 0))[0] for kind in _KINDS]
_EACH = [_TAIL.get(kind, (0, 0))[1] for kind in _KINDS]

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


def entry_sizes(path: Path) -> dict[str, int]:
    """The sizes of the special sections' entries, by section, as far as the kernel at *path* describes them."""
    types = read(path)
    if types is None:
        return {}
    sizes = types.sizes(_ENTRIES.values())
    return {section: sizes[name] for section, name in _ENTRIES.items() if name in sizes}


def read(path: Path) -> Types | None:
    """The types of an ELF file; None if it describes none."""
    image = e.mapped(path)
    for header in e.headers(path, image, (e.ET_REL, *e.LINKED)):
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
        except struct.error as error:
            raise self._damaged(str(error)) from error

    def sizes(self, names: Iterable[str]) -> dict[str, int]:
        """The sizes of the structs of these names."""
        places = {place: name for name in names for place in self._places(name.encode())}
        try:
            return {places[place]: size for place, size in self._structs(places)}
        except struct.error as error:
            raise self._damaged(str(error)) from error

    def _places(self, name: bytes) -> Iterator[int]:
        """Where in the strings a name can be that is *name*: also at the end of a longer one."""
        place = self._strings.find(name + b"\0")
        while place >= 0:
            yield place
            place = self._strings.find(name + b"\0", place + 1)

    def _damaged(self, what: str) -> ElfError:
        return ElfError(f"{self._where}: .BTF is damaged: {what}")

    def _structs(self, places: Container[int]) -> Iterator[tuple[int, int]]:
        """The structs whose names are at one of *places* in the strings: where the name is, and their size."""
        at, data, end, last = 0, self._data, len(self._data), max(self._strings.rfind(b"\0"), 0)
        while at < end:
            name, info, size = _TYPE.unpack_from(data, at)
            kind = info >> 24 & 0x1F
            if name > last:
                raise self._damaged(f"a name at {name} is outside of its strings")
            if kind == _STRUCT and name in places:
                yield name, size
            at += _FIXED[kind] + _EACH[kind] * (info & 0xFFFF)
        if at > end:
            raise self._damaged("its last type is cut off")
