# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the author of a patch says in it, with kmod/core/kpatch_author.h: hooks, forced functions, what to ignore."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ansible_collections.kpatch.fleet.plugins.module_utils.build import elf as e
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import ElfError
from ansible_collections.kpatch.fleet.plugins.module_utils.build.pieces import Kind, Piece

HEADER = "kpatch_author.h"
HOOKS = ("pre_patch", "post_patch", "pre_unpatch", "post_unpatch")
FORCE = "force"
IGNORED = {
    "ignore_function": "KPATCH_IGNORE_FUNCTION",
    "ignore_data": "KPATCH_IGNORE_DATA",
    "ignore_section": "KPATCH_IGNORE_SECTION",
}

_SECTION = ".discard.kpatch"
_FORCED = re.compile(r"^\+\s*KPATCH_FORCE_UNSAFE\(\s*(\w+)", re.MULTILINE)


@dataclass(frozen=True)
class Marks:
    """The marks of one object file, each of a kind and with the name that it is about."""

    all: tuple[tuple[str, str], ...] = ()

    @property
    def hooks(self) -> list[tuple[str, str]]:
        """Of each hook the kind, one of HOOKS, and the function."""
        return [(kind, name) for kind, name in self.all if kind in HOOKS]

    def names(self, kind: str) -> set[str]:
        """The names of one kind."""
        return {name for each, name in self.all if each == kind}

    def forces(self, function: str) -> bool:
        """Whether a function is forced."""
        return source_name(function) in self.names(FORCE)

    def ignore(self, piece: Piece) -> bool:
        """Whether it is ignored what has changed in *piece*."""
        kind = "ignore_function" if piece.kind is Kind.FUNCTION else "ignore_data"
        return self.ignore_section(piece.section.name) or source_name(piece.name) in self.names(kind)

    def ignore_section(self, name: str) -> bool:
        """Whether it is ignored what has changed in a section."""
        return name in self.names("ignore_section")


def read(elf: e.Elf, file: str) -> Marks:
    """The marks in an object file compiled of *file*."""
    found: list[tuple[str, str]] = []
    for section in elf.sections:
        if section.name != _SECTION:
            continue
        for word in section.data.decode("ascii", "replace").split("\0"):
            kind, equals, name = word.partition("=")
            if equals and (kind == FORCE or kind in HOOKS or kind in IGNORED):
                found.append((kind, name))
            elif word:
                raise ElfError(f"{file}: {_SECTION}: the mark {word!r} is not one of {HEADER}'s")
    return Marks(tuple(found))


def forced(diff: str) -> list[str]:
    """The functions that the text of a diff forces."""
    return _FORCED.findall(diff)


def source_name(name: str) -> str:
    """What an author means by a symbol, a clone or numbered maybe: foo.isra.0 → foo, counter.3 → counter."""
    return name.split(".", 1)[0]
