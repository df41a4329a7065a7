# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a patch module finds what it does not bring along: an export, a symbol of vmlinux, one of a module.

The choice is told in docs/architecture.md, "The relocations of a patch module".
"""

from __future__ import annotations

from ansible_collections.kpatch.fleet.plugins.module_utils.build import elf as e
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import VMLINUX, ObjectContext, known
from ansible_collections.kpatch.fleet.plugins.module_utils.build.pieces import Kind, Parts, Piece
from ansible_collections.kpatch.fleet.plugins.module_utils.build.special import Outside, Where
from ansible_collections.kpatch.fleet.plugins.module_utils.manifest import CORE_NAME


class Resolver:
    """Resolves what one object file refers to; AmbiguousError if names don't tell."""

    def __init__(self, context: ObjectContext, original: Parts) -> None:
        self._context = context
        named = (Kind.FUNCTION, Kind.DATA)
        names = {
            symbol.name
            for piece in original
            if piece.kind in named
            for symbol in piece.symbols
            if symbol.bind == e.STB_LOCAL
        }
        self._group = context.symbols.group(context.source, names)
        self._vmlinux = self._group if context.object == VMLINUX else context.vmlinux.group("", set())

    def own(self, piece: Piece) -> Outside:
        """A function or data of the original object file."""
        symbol = known(piece.symbol, "only pieces with a name are looked up")
        if symbol.bind != e.STB_LOCAL and self._exported(symbol.name):
            return self.external(symbol.name)
        sympos = self.sympos(piece)
        if sympos is None:
            return Outside(Where.UNKNOWN, self._context.object, symbol.name)
        return Outside(self._where(), self._context.object, symbol.name, sympos)

    def sympos(self, piece: Piece) -> int | None:
        """Which of the symbols of its name a piece of the original is; None if its object has none."""
        symbol = known(piece.symbol, "only pieces with a name are looked up")
        return self._group.sympos(symbol.name, symbol.bind == e.STB_LOCAL, self._size(piece, symbol))

    def _size(self, piece: Piece, symbol: e.Symbol) -> int:
        """How long the kernel's is, if known: of zero_user_segments.constprop.0 there are two in 6.12's netfs."""
        lengths = self._context.lengths
        return symbol.size if lengths is None or piece.kind is not Kind.FUNCTION else lengths.get(symbol.name, 0)

    def external(self, name: str) -> Outside:
        """A symbol that the object file leaves undefined."""
        if self._exported(name):
            return Outside(Where.EXPORT, VMLINUX, name)
        export, here = self._context.exports.get(name), self._context.object
        if export is not None and export.module == CORE_NAME:
            return Outside(Where.EXPORT, CORE_NAME, name)  # every patch module depends on it
        sympos = self._group.sympos(name, local=False)
        if sympos is not None:
            return Outside(self._where(), here, name, sympos)
        if export is not None and export.module not in (VMLINUX, here):
            return Outside(Where.CORE, export.module, name)
        sympos = self._vmlinux.sympos(name, local=False)
        if sympos is not None:
            return Outside(Where.LIVEPATCH, VMLINUX, name, sympos)
        return Outside(Where.UNKNOWN, here, name)

    def _exported(self, name: str) -> bool:
        """Whether vmlinux exports it to modules that import no namespace."""
        export = self._context.exports.get(name)
        return export is not None and export.module == VMLINUX and not export.namespace

    def _where(self) -> Where:
        return Where.LIVEPATCH if self._context.object == VMLINUX else Where.CORE
