# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write what the object files of a patch bring along as one object file, ready for the linker.

Symbols of vmlinux that it does not export become `.klp.sym.vmlinux.<name>,<sympos>`, undefined like any other:
the linker keeps them and finish() turns them into what the module loader expects. A relocation of the core
module's is taken out, and a global symbol marks its place for the glue; for livepatch it is kept as one against
`.klp.sym.<module>.<name>,<sympos>`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from ansible_collections.kpatch.fleet.plugins.module_utils.build import elf as e
from ansible_collections.kpatch.fleet.plugins.module_utils.build.elfwrite import write
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import (
    VMLINUX,
    EmittedFunction,
    EmittedHook,
    EmittedObject,
    EmittedReloc,
    ObjectContext,
    ObjectDiff,
    Refusal,
    RefusedError,
    is_there,
    known,
)
from ansible_collections.kpatch.fleet.plugins.module_utils.build.special import Outside, Plan, Where
from ansible_collections.kpatch.fleet.plugins.module_utils.build.stubs import share_calls

ALIAS = "__kpatch_new_"
HOOK = "__kpatch_hook_"
PLACE = "__kpatch_place_"
KLP_SYMBOL = ".klp.sym."
NO_FORCE = (
    "the patch forces it, and the kernel's own livepatch can't force one function, only a whole transition, by hand; "
    "ask for backend kpatch"
)
NO_EXIT = (
    "it is the exit function of {}, which has no call to ftrace, so that the kernel's own livepatch can't replace it; "
    "ask for backend kpatch"
)
_BREAKPOINT = b"\xcc"


def emit(diffs: Iterable[ObjectDiff], out: Path, livepatch: bool = False) -> EmittedObject:
    """Write the object file *out* of all *diffs*; RefusedError if one of them has refusals, or all do together."""
    diffs = list(diffs)
    refusals = [refusal for diff in diffs for refusal in diff.refusals]
    if refusals:
        raise RefusedError(refusals)
    emitter = _Emitter([diff.plan for diff in diffs if diff.plan is not None], livepatch)
    emitter.work()
    share_calls(emitter.elf, f"{KLP_SYMBOL}{VMLINUX}.")
    for diff in diffs:
        emitter.result.added += diff.added_functions
    write(emitter.elf, out)
    return emitter.result


class _Emitter:
    """One object file being put together."""

    def __init__(self, plans: list[Plan], livepatch: bool) -> None:
        self.plans = plans
        self.livepatch = livepatch
        self.elf = e.Elf()
        self.result = EmittedObject()
        self._merged: dict[str, e.Section] = {}
        self._data: dict[str, bytearray] = {}
        self._home: dict[int, tuple[e.Section, int]] = {}
        self._section_symbols: dict[str, e.Symbol] = {}
        self._undefined: dict[Outside, e.Symbol] = {}
        self._outside: dict[int, Outside] = {}
        self._added: dict[tuple[str, str], e.Symbol] = {}
        self._refusals: list[Refusal] = []

    def work(self) -> None:
        """All steps, in order."""
        for plan in self.plans:
            for section in plan.sections:
                self._append(section)
        for name, section in self._merged.items():
            section.data = b"" if section.type == e.SHT_NOBITS else bytes(self._data[name])
            self.elf.sections.append(section)
        for plan in self.plans:
            self._define(plan)
        for plan in self.plans:
            self._relocate(plan)
        for plan in self.plans:
            self._alias(plan)
            self._hook(plan)
        if self._refusals:
            raise RefusedError(sorted(set(self._refusals), key=str))
        exported = {outside.name for outside in self._undefined if outside.where is Where.EXPORT}
        self.result.exports = sorted(exported)

    def _append(self, section: e.Section) -> None:
        name = section.name
        if name not in self._merged:
            self._merged[name] = e.Section(name, section.type, section.flags)
            self._data[name] = bytearray()
        whole, data = self._merged[name], self._data[name]
        whole.flags |= section.flags
        whole.align = max(whole.align, section.align)
        gap = -whole.size % max(section.align, 1)
        base = whole.size + gap
        if section.type != e.SHT_NOBITS:
            data += (_BREAKPOINT if section.code else b"\0") * gap + section.data
        whole.size = base + section.size
        self._home[id(section)] = (whole, base)

    def _define(self, plan: Plan) -> None:
        for symbol in plan.symbols:
            if symbol.type == e.STT_SECTION:
                continue
            whole, base = self._home[id(known(symbol.section, "a plan's own symbols are defined"))]
            symbol.section, symbol.value = whole, symbol.value + base
            self.elf.symbols.append(symbol)
        for symbol in plan.added:
            self._added[(plan.context.object, symbol.name)] = symbol
        self._outside.update((id(symbol), outside) for symbol, outside in plan.outside)

    def _relocate(self, plan: Plan) -> None:
        for section in plan.sections:
            whole, base = self._home[id(section)]
            for reloc in section.relocs:
                self._reloc(plan, whole, reloc, base + reloc.offset)

    def _reloc(self, plan: Plan, whole: e.Section, reloc: e.Reloc, offset: int) -> None:
        symbol, addend = reloc.symbol, reloc.addend
        if symbol.type == e.STT_SECTION and symbol.section is not None and id(symbol.section) in self._home:
            home, base = self._home[id(symbol.section)]
            whole.relocs.append(e.Reloc(offset, reloc.type, self._section_symbol(home), addend + base))
            return
        outside = self._outside.get(id(symbol))
        if outside is None:
            whole.relocs.append(e.Reloc(offset, reloc.type, symbol, addend))
        elif outside.where is Where.CORE and not self.livepatch:
            self._place(plan, whole, reloc, offset, outside)
        else:
            found = self._find(plan, symbol, outside)
            whole.relocs.append(e.Reloc(offset, reloc.type, found, addend))

    def _find(self, plan: Plan, symbol: e.Symbol, outside: Outside) -> e.Symbol:
        if outside.where is Where.UNKNOWN:
            owners = self._owners(plan.context, outside)
            if len(owners) == 1 and is_there(owners[0], plan.context):
                return self._added[(owners[0], outside.name)]
            if owners or symbol.bind != e.STB_WEAK:
                self._refusals.append(Refusal(plan.context.source, outside.name, _nowhere(outside, owners)))
        if outside not in self._undefined:
            name = outside.name
            if outside.where in (Where.LIVEPATCH, Where.CORE):
                sympos = self._livepatch_sympos(plan, outside.object, outside.name, outside.sympos)
                name = f"{KLP_SYMBOL}{outside.object}.{outside.name},{sympos}"
                self.result.referenced.add(outside.object)
            made = e.Symbol(name, bind=symbol.bind)
            self._undefined[outside] = made
            self.elf.symbols.append(made)
        return self._undefined[outside]

    def _owners(self, context: ObjectContext, outside: Outside) -> list[str]:
        """The objects to which the patch adds a symbol; its user's own comes before all others.

        A fix adds mlx4_put_qp() to mlx4_core and calls it in mlx4_ib, too.
        """
        owners = [owner for owner, name in self._added if name == outside.name]
        own = [owner for owner in owners if owner == context.object]
        return own or [owner for owner in owners if is_there(owner, context)] or owners

    def _place(self, plan: Plan, whole: e.Section, reloc: e.Reloc, offset: int, outside: Outside) -> None:
        place = f"{PLACE}{len(self.result.relocs)}"
        self.elf.symbols.append(e.Symbol(place, offset, 0, e.STB_GLOBAL, e.STT_NOTYPE, section=whole))
        # What another module exports has one address, and no sympos.
        sympos = plan.context.symbols.ordinal(outside.name, outside.sympos) if outside.sympos else 0
        self.result.relocs.append(EmittedReloc(outside.object, place, reloc.type, outside.name, sympos, reloc.addend))

    def _alias(self, plan: Plan) -> None:
        for function, symbol in plan.functions:
            if function.forced and self.livepatch:
                self._refusals.append(Refusal(plan.context.source, function.name, NO_FORCE))
            if function.exit and self.livepatch:
                self._refusals.append(Refusal(plan.context.source, function.name, NO_EXIT.format(function.object)))
            name = self._lend(ALIAS, len(self.result.functions), function.name, symbol)
            sympos = function.sympos
            if self.livepatch:
                sympos = self._livepatch_sympos(plan, function.object, function.name, sympos)
            self.result.functions.append(
                EmittedFunction(
                    function.object, function.name, sympos, name, function.reason, function.forced, function.exit
                )
            )

    def _livepatch_sympos(self, plan: Plan, owner: str, name: str, sympos: int) -> int:
        return sympos if owner == VMLINUX else plan.context.symbols.position(name, sympos)

    def _hook(self, plan: Plan) -> None:
        for hook, symbol in plan.hooks:
            other = next((one for one in self.result.hooks if (one.object, one.kind) == (hook.object, hook.kind)), None)
            if other is not None:
                reason = f"{hook.object} has a {hook.kind} hook already, {other.name}; let one function do both"
                self._refusals.append(Refusal(hook.source, hook.name, reason))
            name = self._lend(HOOK, len(self.result.hooks), hook.name, symbol)
            self.result.hooks.append(EmittedHook(hook.object, hook.kind, hook.name, name))

    def _lend(self, prefix: str, number: int, name: str, symbol: e.Symbol) -> str:
        """The name that the glue knows a function by."""
        lent = f"{prefix}{number}_{re.sub(r'[^A-Za-z0-9_]', '_', name)}"
        self.elf.symbols.append(
            e.Symbol(lent, symbol.value, symbol.size, e.STB_GLOBAL, e.STT_NOTYPE, section=symbol.section)
        )
        return lent

    def _section_symbol(self, section: e.Section) -> e.Symbol:
        if section.name not in self._section_symbols:
            symbol = e.Symbol("", type=e.STT_SECTION, section=section)
            self._section_symbols[section.name] = symbol
            self.elf.symbols.append(symbol)
        return self._section_symbols[section.name]


def _nowhere(outside: Outside, owners: list[str]) -> str:
    """Why a symbol that only the patch can have is not to be had from *owners*, the objects to which it adds one."""
    if len(owners) > 1:
        return f"the patch adds it to each of {', '.join(owners)}; which is meant? Give each a name of its own"
    if owners:
        return (
            f"the patch adds it to {owners[0]}, without which {outside.object} can be loaded: the shipped one does not "
            f"depend on it; add it to {outside.object}"
        )
    return (
        f"the patch refers to it, but neither the kernel nor {outside.object} has a symbol of this name, and the patch "
        "adds none; is its definition in a file that the patch does not change?"
    )
