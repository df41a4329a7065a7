# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the little of an ELF file that a host needs: notes, .modinfo, and whether a signature is appended."""

from __future__ import annotations

import struct
from collections.abc import Iterator

_NT_GNU_BUILD_ID = 3
_SIGNATURE_MARK = b"~Module signature appended~\n"
_EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
_SHDR = struct.Struct("<IIQQQQIIQQ")
_NHDR = struct.Struct("<III")
_ELF64_LITTLE_ENDIAN = b"\x7fELF\x02\x01"


class ElfError(ValueError):
    """The bytes are not an ELF file of the kind that is expected."""


def build_id(notes: bytes) -> str | None:
    """The GNU build id in the bytes of a note section, as hex digits."""
    for name, kind, content in _notes(notes):
        if (name, kind) == (b"GNU\0", _NT_GNU_BUILD_ID) and content:
            return content.hex()
    return None


def modinfo(image: bytes) -> dict[str, str]:
    """The key=value pairs of a module's .modinfo; of a key that repeats, the first."""
    pairs: dict[str, str] = {}
    for entry in _section(image, b".modinfo").split(b"\0"):
        key, equals, value = entry.decode("utf-8", "replace").partition("=")
        if equals:
            pairs.setdefault(key, value)
    return pairs


def is_signed(image: bytes) -> bool:
    """Whether a signature is appended; only the kernel can tell whether it is valid."""
    return image.endswith(_SIGNATURE_MARK)


def _notes(data: bytes) -> Iterator[tuple[bytes, int, bytes]]:
    offset = 0
    while offset + _NHDR.size <= len(data):
        name_size, size, kind = _NHDR.unpack_from(data, offset)
        name_at = offset + _NHDR.size
        content_at = name_at + _aligned(name_size)
        offset = content_at + _aligned(size)
        yield data[name_at : name_at + name_size], kind, data[content_at : content_at + size]


def _aligned(size: int) -> int:
    return (size + 3) & ~3


def _section(image: bytes, wanted: bytes) -> bytes:
    try:
        header = _EHDR.unpack_from(image)
        table, entry_size, count, names_index = header[6], header[11], header[12], header[13]
        if not header[0].startswith(_ELF64_LITTLE_ENDIAN) or entry_size != _SHDR.size:
            raise ElfError("it is not a 64-bit little-endian ELF file")
        sections = [_SHDR.unpack_from(image, table + index * entry_size) for index in range(count)]
        names = _content(image, sections[names_index])
    except (struct.error, IndexError) as error:
        raise ElfError("it is not a whole ELF file") from error
    for section in sections:
        if names[section[0] :].split(b"\0", 1)[0] == wanted:
            return _content(image, section)
    raise ElfError(f"it has no section {wanted.decode()}")


def _content(image: bytes, section: tuple[int, ...]) -> bytes:
    offset, size = section[4], section[5]
    if offset + size > len(image):
        raise ElfError("it is cut off")
    return image[offset : offset + size]
