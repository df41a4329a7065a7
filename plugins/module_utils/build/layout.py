# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Structs that a patch lays out anew: the running kernel's data is as the original code left it.

Both object files are compiled with -g; pahole (package dwarves) turns that into BTF, which is read here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.kpatch.fleet.plugins.module_utils.build import btf
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import BuildError
from ansible_collections.kpatch.fleet.plugins.module_utils.build.run import run

_BITS = 8


@dataclass(frozen=True)
class LayoutChange:
    """One struct, union or enum that is not what it was."""

    type: str
    changes: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.type}: {'; '.join(self.changes)}"


def types_of(path: Path, scratch: Path) -> btf.Types:
    """The types that the object file at *path*, compiled with -g, uses."""
    out = scratch / f"{path.name}.btf"
    run(["pahole", "-J", f"--btf_encode_detached={out}", path])
    try:
        return btf.Types(memoryview(out.read_bytes()), str(path))
    except OSError as error:
        raise BuildError(f"{path}: pahole wrote no types of it; was it compiled with -g?") from error


def changes(original: btf.Types, patched: btf.Types) -> list[LayoutChange]:
    """The types of a name that both use, and that differ."""
    found = []
    before, after = original.structs(), patched.structs()
    for name in sorted(before.keys() & after.keys()):
        told = _struct_changes(before[name], after[name])
        if told:
            found.append(LayoutChange(name, tuple(told)))
    enums = original.enums(), patched.enums()
    for name in sorted(enums[0].keys() & enums[1].keys()):
        told = _enum_changes(enums[0][name], enums[1][name])
        if told:
            found.append(LayoutChange(name, tuple(told)))
    return found


def _struct_changes(before: btf.Struct, after: btf.Struct) -> list[str]:
    told = []
    if before.size != after.size:
        told.append(f"its size was {before.size} bytes and is {after.size}")
    old, new = _by_name(before), _by_name(after)
    told += [f"{name} is no longer there" for name in old if name not in new]
    told += [f"{name} is new, {_place(member)}" for name, member in new.items() if name not in old]
    for name in old.keys() & new.keys():
        one, two = old[name], new[name]
        if (one.offset, one.width) != (two.offset, two.width):
            told.append(f"{name} was {_place(one)} and is {_place(two)}")
        if one.type != two.type:
            told.append(f"{name} was of type {one.type} and is of type {two.type}")
    return told


def _by_name(struct: btf.Struct) -> dict[str, btf.Member]:
    """Members without a name are known by their number."""
    return {member.name or f"member {number}": member for number, member in enumerate(struct.members)}


def _place(member: btf.Member) -> str:
    byte, bit = divmod(member.offset, _BITS)
    return f"at byte {byte}" + (f" bit {bit}, {member.width} wide" if member.width else "")


def _enum_changes(before: Mapping[str, int], after: Mapping[str, int]) -> list[str]:
    """A new enumerator changes nothing for who does not know it."""
    return [
        f"{name} was {value} and is {after.get(name, 'no longer there')}"
        for name, value in before.items()
        if after.get(name) != value
    ]
