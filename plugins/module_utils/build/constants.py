# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Data that changed and of which the patch may bring its own copy, if all who use it are replaced with it.

The running kernel goes on using the old one. That is sound for a table of which functions read, and for a policy that
they pass on; it is not for a struct of operations that somebody keeps, and compares with. What is written to holds what
the running kernel knows, unless all that it knows is how often a message was said.
"""

from __future__ import annotations

from collections import defaultdict

from ansible_collections.kpatch.fleet.plugins.module_utils.build import elf as e
from ansible_collections.kpatch.fleet.plugins.module_utils.build.correlate import is_message_limit
from ansible_collections.kpatch.fleet.plugins.module_utils.build.instruction import is_load
from ansible_collections.kpatch.fleet.plugins.module_utils.build.pieces import Kind, Parts, Piece
from ansible_collections.kpatch.fleet.plugins.module_utils.build.special import is_dropped, is_table


class Users:
    """Who refers to the data of one object file."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._users: dict[int, list[tuple[e.Section, e.Reloc]]] = defaultdict(list)
        for section in parts.elf.sections:
            if not section.flags & e.SHF_ALLOC or is_dropped(section):
                continue
            for reloc in section.relocs:
                piece = parts.target(section, reloc).piece
                if piece is not None and piece.kind is Kind.DATA:
                    self._users[id(piece)].append((section, reloc))

    def why_shared(self, piece: Piece) -> str | None:
        """Why a copy of *piece* would not do; None if it would."""
        if not may_be_copied(piece):
            return "the running kernel uses the data as it is; change the functions that use it"
        if piece.symbol is None or piece.symbol.bind != e.STB_LOCAL:
            return "other files may use it; make a copy under a new name and use that where it matters"
        for section, reloc in self._users[id(piece)]:
            reason = self._why_not(piece, section, reloc)
            if reason is not None:
                return reason
        return None if self._users[id(piece)] else "no function uses it"

    def _why_not(self, piece: Piece, section: e.Section, reloc: e.Reloc) -> str | None:
        user = self._user(section, reloc.offset)
        if section.code:
            if is_table(section.name) or section.name.startswith((".init", ".exit")):
                return f"{section.name} uses it, which can't be replaced"
            if self._holds_functions(piece) and not is_load(section.data, reloc.offset):
                return f"it holds function pointers, and {user} hands its address on: who has the old one keeps it"
            return None
        if section.flags & e.SHF_WRITE or not section.name.startswith(".rodata"):
            return f"{user} holds its address, and is in use"
        return None

    def _user(self, section: e.Section, offset: int) -> str:
        pieces = [piece for piece in self._parts.of(section) if piece.start <= offset < piece.end]
        return pieces[0].name if pieces else section.name

    def _holds_functions(self, piece: Piece) -> bool:
        """An undefined symbol may be a function, too."""
        targets = (self._parts.target(piece.section, reloc) for reloc in self._parts.relocs(piece))
        return any(target.piece is None or target.piece.code for target in targets)


def may_be_copied(piece: Piece) -> bool:
    """Whether nobody writes to it, not even at boot, or what is written is of no use to another one."""
    constant = not piece.section.flags & e.SHF_WRITE and piece.section.name.startswith(".rodata")
    return piece.kind is Kind.DATA and (constant or is_message_limit(piece))
