# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A line number that moved is no change: what of a function's code and strings is __LINE__.

The source patches that the builder applies keep line numbers by #line. Two objects of somebody else's build do not:
there ASSERT_RTNL() of 31 functions of net/core/dev.c changes with one line more at its top.
"""

from __future__ import annotations

import re

from ansible_collections.kpatch.fleet.plugins.module_utils.build.correlate import stem
from ansible_collections.kpatch.fleet.plugins.module_utils.build.instruction import is_branch, loaded_constant
from ansible_collections.kpatch.fleet.plugins.module_utils.build.pieces import Kind, Parts, Piece

# unsafe_memcpy() and its like: "field \"cmd->cdb\" at drivers/scsi/virtio_scsi.c:585".
_PLACE_IN_FILE = re.compile(rb"(\.[ch]:)\d+")
_FILE = re.compile(rb"[\w./+-]+\.[ch]\0")
_FUNCTION_NAMES = {"__func__", "__FUNCTION__", "__PRETTY_FUNCTION__"}
Field = tuple[int, int]  # from where to where in the code

_MOST_LINES = 1 << 18
_NEAR = 64  # bytes of code in which the arguments of one call are loaded


def without_line(text: bytes) -> bytes:
    """A string without the line of the place in a file that it names."""
    return _PLACE_IN_FILE.sub(rb"\1", text)


def only_lines_differ(original: tuple[Parts, Piece], patched: tuple[Parts, Piece]) -> bool:
    """Whether two functions differ in the line numbers that they pass along with a file's or a function's name.

    All that differ have to have moved by as much: ASSERT_RTNL() passes __FILE__ and __LINE__, btrfs_panic() __func__
    and __LINE__.
    """
    before, after = original[1].data, patched[1].data
    if len(before) != len(after):
        return False
    fields = _differing_fields(before, after)
    if not fields:
        return False
    lines = [(_number(before, field), _number(after, field)) for field in fields]
    if len({new - old for old, new in lines}) != 1 or not all(
        0 < line < _MOST_LINES for pair in lines for line in pair
    ):
        return False
    return all(_names_a_place(*side, field[0]) for side in (original, patched) for field in fields)


def _differing_fields(before: bytes, after: bytes) -> list[Field]:
    """Where the constants are in which the code differs; none if it differs in anything else."""
    fields: list[Field] = []
    for at, (one, two) in enumerate(zip(before, after)):
        if one == two or (fields and at < fields[-1][1]):
            continue
        field = loaded_constant(before, at)
        if field is None or before[: field[0]][-2:] != after[: field[0]][-2:]:
            return []
        fields.append(field)
    return fields


def _number(code: bytes, field: Field) -> int:
    return int.from_bytes(code[slice(*field)], "little")


def _names_a_place(parts: Parts, piece: Piece, field: int) -> bool:
    """Whether the next call after *field* is passed the name of a file or a function, too."""
    at = piece.start + field
    relocs = parts.relocs_between(piece.section, max(piece.start, at - _NEAR), min(piece.end, at + _NEAR))
    call = next((r.offset for r in relocs if r.offset > at and is_branch(piece.section.data, r.offset)), None)
    if call is None:
        return False
    targets = (parts.target(piece.section, reloc).piece for reloc in relocs if reloc.offset < call)
    return any(target is not None and _is_name(target) for target in targets)


def _is_name(piece: Piece) -> bool:
    if piece.kind is Kind.STRING:
        return bool(_FILE.fullmatch(piece.data))
    return piece.kind is Kind.DATA and stem(piece.name) in _FUNCTION_NAMES
