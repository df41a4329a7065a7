# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The types that a kernel describes in its .BTF section (Documentation/bpf/btf.rst).

One thing is wanted of it: how big the entries of a kernel's special sections are.
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
class _Type:
    name: str
    kind: int
    size: int  # or the type that it refers to


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

    def _damaged(self, what: str) -> ElfError:
        return ElfError(f"{self._where}: .BTF is damaged: {what}")

    def _walk(self) -> Iterable[_Type]:
        at, data = 0, self._data
        while at < len(data):
            name, info, size = _TYPE.unpack_from(data, at)
            kind, count = info >> 24 & 0x1F, info & 0xFFFF
            fixed, each = _TAIL.get(kind, (0, 0))
            yield _Type(self._text(name), kind, size)
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
