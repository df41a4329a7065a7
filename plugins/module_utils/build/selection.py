# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes into the patch module: changed and new functions, and what they refer to that the kernel lacks.

References between the pieces that go in stay; all others are to the running kernel. The address of a changed
function, as opposed to a call, stays that of the original wherever somebody else may compare or keep it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ansible_collections.kpatch.fleet.plugins.module_utils.build import elf as e
from ansible_collections.kpatch.fleet.plugins.module_utils.build import static_branch
from ansible_collections.kpatch.fleet.plugins.module_utils.build.correlate import (
    Correlation,
    is_copied,
    is_message_limit,
)
from ansible_collections.kpatch.fleet.plugins.module_utils.build.instruction import is_branch
from ansible_collections.kpatch.fleet.plugins.module_utils.build.marks import Marks
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import (
    Added,
    ObjectContext,
    ObjectDiff,
    Refusal,
    known,
)
from ansible_collections.kpatch.fleet.plugins.module_utils.build.pieces import Kind, Parts, Piece, Target
from ansible_collections.kpatch.fleet.plugins.module_utils.build.resolve import Resolver
from ansible_collections.kpatch.fleet.plugins.module_utils.build.runtime import (
    UnknownConstantError,
    definition,
    is_runtime,
    read_instead,
)
from ansible_collections.kpatch.fleet.plugins.module_utils.build.special import (
    DYNAMIC_DEBUG,
    JUMPS,
    KEYED,
    ORC_IP,
    READ_AT_BOOT,
    Entries,
    Entry,
    Outside,
    Plan,
    Where,
    is_dropped,
    is_over,
    is_table,
)
from ansible_collections.kpatch.fleet.plugins.module_utils.build.symtab import AmbiguousError

_KEY_FLAGS = 3  # in the address of a __jump_table entry's key: whether the branch is inverted, a mark for objtool
_TRACEPOINT = re.compile(r"__tracepoint_(\w+)")
_FAMILY = re.compile(r"\.cold(\.\d+)?$")
_KEPT = (".data..ro_after_init", DYNAMIC_DEBUG, ".altinstr_replacement", ".altinstr_aux")


class Selection:
    """Collects pieces until nothing is missing, and turns them into a plan."""

    def __init__(
        self,
        context: ObjectContext,
        parts: tuple[Parts, Parts],
        pairs: Correlation,
        entries: tuple[Entries, Entries],
        resolver: Resolver,
        marks: Marks,
    ) -> None:
        self._context, self._pairs, self._resolver = context, pairs, resolver
        self._original, self._parts = parts
        self._entries = entries[1]
        self._marks = marks
        self._taken = addresses_taken(self._original)
        self._plan = Plan(context)
        self._included: set[int] = set()
        self._changed: set[int] = set()
        self._sections: dict[int, e.Section] = {}
        self._symbols: dict[int, e.Symbol] = {}
        self._entry_sections: dict[int, e.Section] = {}
        self._outside: dict[Outside, e.Symbol] = {}
        self._refusals: list[Refusal] = []
        self._notes: list[Added] = []
        self._cramped = False

    def plan(self, changed: Iterable[Piece], new: Iterable[Piece], result: ObjectDiff) -> Plan:
        """The plan; refusals and what was added are noted in *result*."""
        changed, new = list(changed), list(new)
        self._changed = {id(piece) for piece in changed}
        families = {piece.name for piece in [*changed, *new]}
        cold = [
            piece
            for piece in self._parts
            if piece.kind is Kind.FUNCTION and _FAMILY.search(piece.name) and _FAMILY.sub("", piece.name) in families
        ]
        included = self._close([*changed, *new, *cold])
        self._check_tables()
        for piece in included:
            self._place(piece)
        for piece in included:
            self._relocate(piece)
        for piece in included:
            for entry in self._entries.of(piece):
                if is_runtime(entry):
                    self._read_constant(piece, entry)
                elif not self._left_out(piece, entry):
                    self._place_entry(entry)
        self._note(changed, new, included, result)
        return self._plan

    def _note(self, changed: list[Piece], new: list[Piece], included: list[Piece], result: ObjectDiff) -> None:
        originals = {before.name: piece for piece in changed if (before := self._pairs.original(piece))}
        self._plan.functions = [(function, self._symbols[id(originals[function.name])]) for function in result.changed]
        by_name = {piece.name: piece for piece in new}
        self._plan.hooks = [(hook, self._symbols[id(by_name[hook.name])]) for hook in result.hooks]
        for piece in included:
            symbol = piece.symbol
            if symbol and symbol.bind != e.STB_LOCAL and self._pairs.original(piece) is None:
                self._plan.added.append(self._symbols[id(piece)])
        for piece in included:
            if piece.kind is Kind.DATA and not is_copied(piece):
                result.added_data.append(Added(self._context.object, piece.name, _why_along(piece, self._pairs)))
        result.refusals += self._refusals
        result.notes += self._notes
        result.cramped = self._cramped

    def _refuse(self, what: str, reason: str) -> None:
        self._refusals.append(Refusal(self._context.source, what, reason))

    # Which pieces go in.

    def _close(self, work: list[Piece]) -> list[Piece]:
        """*work* and all that it refers to and that has to come along, each once."""
        included: list[Piece] = []
        self._included = {id(piece) for piece in work}
        while work:
            piece = work.pop(0)
            included.append(piece)
            for section, reloc in self._references(piece):
                found = self._parts.target(section, reloc).piece
                if found is not None and id(found) not in self._included and self._comes_along(found):
                    self._included.add(id(found))
                    work.append(found)
        return included

    def _references(self, piece: Piece) -> list[tuple[e.Section, e.Reloc]]:
        own = [(piece.section, reloc) for reloc in self._parts.relocs(piece)]
        special = [(entry.section, reloc) for entry in self._entries.of(piece) for reloc in entry.relocs]
        return own + special

    def _comes_along(self, piece: Piece) -> bool:
        if piece.kind is Kind.TABLE:
            return False
        before = self._pairs.original(piece)
        return is_copied(piece) or before is None or (is_message_limit(piece) and self._ambiguous(before))

    def _ambiguous(self, before: Piece) -> bool:
        try:
            self._resolver.sympos(before)
        except AmbiguousError:
            return True
        return False

    def _check_tables(self) -> None:
        """A table whose meaning is not known here must not have anything to say about what goes in."""
        for section in self._parts.elf.sections:
            if not section.flags & e.SHF_ALLOC or not _is_unknown_table(self._parts, section):
                continue
            if self._marks.ignore_section(section.name):
                continue
            for reloc in section.relocs:
                piece = self._parts.target(section, reloc).piece
                if piece is not None and piece.kind is Kind.FUNCTION and id(piece) in self._included:
                    self._refuse(
                        piece.name,
                        f"the section {section.name} has an entry for it, and what that means in a patch module "
                        "is not known to this builder; patch the functions that call it, or, if it means "
                        f'nothing there, say KPATCH_IGNORE_SECTION("{section.name}")',
                    )

    # Laying them out.

    def _place(self, piece: Piece) -> None:
        source = piece.section
        size = piece.end - piece.start
        data = b"" if source.type == e.SHT_NOBITS else piece.data
        flags = source.flags & (e.SHF_WRITE | e.SHF_ALLOC | e.SHF_EXECINSTR)
        align = _alignment(source, piece.start)
        section = e.Section(_output_name(piece), source.type, flags, max(align, 1), 0, data, size)
        self._sections[id(piece)] = section
        self._plan.sections.append(section)
        known = piece.symbol
        if known is None:
            symbol = e.Symbol("", type=e.STT_SECTION, section=section)
        else:
            value = known.value - piece.start
            symbol = e.Symbol(known.name, value, known.size, e.STB_LOCAL, known.type, section=section)
        self._symbols[id(piece)] = symbol
        self._plan.symbols.append(symbol)

    def _relocate(self, piece: Piece) -> None:
        for reloc in self._parts.relocs(piece):
            made = self._reloc(piece, piece.section, reloc, piece.start)
            if made is not None:
                self._sections[id(piece)].relocs.append(made)

    def _section_of(self, entry: Entry) -> e.Section:
        """The section of its own that an entry gets; code may refer to it before it is placed."""
        if id(entry) not in self._entry_sections:
            self._entry_sections[id(entry)] = _entry_section(entry)
        return self._entry_sections[id(entry)]

    def _place_entry(self, entry: Entry) -> None:
        owner = known(entry.owner, "only entries with an owner are looked up")
        made = (self._reloc(owner, entry.section, reloc, entry.start) for reloc in entry.relocs)
        self._place_with(entry, self._section_of(entry), [reloc for reloc in made if reloc is not None])

    def _place_with(self, entry: Entry, section: e.Section, relocs: list[e.Reloc]) -> None:
        """Place *section*, an entry, with its relocations and its companion."""
        section.relocs = relocs
        self._plan.sections.append(section)
        if entry.companion is not None:
            whole, start, end = entry.companion
            data = whole.data[start:end]
            flags = whole.flags & e.SHF_ALLOC
            align = _alignment(whole, len(data))
            self._plan.sections.append(e.Section(whole.name, e.SHT_PROGBITS, flags, align, 0, data, len(data)))

    def _read_constant(self, piece: Piece, entry: Entry) -> None:
        """Let the code read the variable, whose value it would have if it were there at boot."""
        section = self._sections[id(piece)]
        try:
            offset = read_instead(self._parts, entry, section, piece.start)
        except UnknownConstantError as error:
            self._refuse(piece.name, str(error))
            return
        symbol = definition(self._parts, entry)
        found = self._parts.piece_of(symbol)
        outside = self._resolve(piece, Target(symbol, found, symbol.value - found.start if found else 0, 0))
        if outside is not None and self._allowed(piece, piece.section, outside):
            section.relocs.append(e.Reloc(offset, e.R_PC32, self._undefined(outside, symbol), -4))

    def _left_out(self, piece: Piece, entry: Entry) -> bool:
        """Whether the kernel need not be told of the entry: its key is in a module, and the code does without it.

        A call that the kernel does not know of goes to the static call's trampoline, which always knows the way. A
        branch tests its key. Where there is no room for that a tracepoint stays off.
        """
        if entry.section.name not in KEYED:
            return False
        target = self._parts.target(entry.section, entry.relocs[-1])
        outside = self._outside_of(target)
        if outside is None or outside.where is not Where.CORE:
            return False
        if entry.section.name != JUMPS or self._test_key(piece, entry, outside):
            return True
        tracepoint = _TRACEPOINT.match(outside.name)
        if tracepoint is not None:
            note = f"the tracepoint {tracepoint[1]} of module {outside.object} is off in it while the patch is on"
            self._notes.append(Added(self._context.object, piece.name, note))
        return tracepoint is not None

    def _test_key(self, piece: Piece, entry: Entry, key: Outside) -> bool:
        """Let the code test the key of a static branch, if there is room for that; see static_branch.py."""
        section, at = self._sections[id(piece)], self._parts.target(entry.section, entry.relocs[0]).offset
        if not static_branch.has_room(section.data, at):
            self._cramped = True
            return False
        target = self._parts.target(entry.section, entry.relocs[2])
        label = self._reloc(piece, entry.section, entry.relocs[1], entry.relocs[1].offset)
        if label is None:
            return True
        start, of_key, of_label = static_branch.append_test(section, at, bool(target.offset & 1))
        addend = (target.offset & ~_KEY_FLAGS) + static_branch.KEY_ADDEND
        if target.piece is not None and target.piece.symbol is not None:
            addend -= target.piece.symbol.value - target.piece.start
        section.relocs.append(e.Reloc(of_key, e.R_PC32, self._undefined(key, target.symbol), addend))
        section.relocs.append(e.Reloc(of_label, e.R_PC32, label.symbol, label.addend - 4))
        self._grow(piece)
        self._unwind_alike(piece, at, start)
        return True

    def _grow(self, piece: Piece) -> None:
        """Let the symbol of a piece cover what was appended to it: whoever is there is in that function."""
        symbol = self._symbols[id(piece)]
        symbol.size = self._sections[id(piece)].size - symbol.value

    def _unwind_alike(self, piece: Piece, at: int, start: int) -> None:
        """The stack is at *start*, appended to a piece, as it is at *at*."""
        entries = [entry for entry in self._entries.of(piece) if entry.section.name == ORC_IP]
        offsets = [self._parts.target(entry.section, entry.relocs[0]).offset for entry in entries]
        before = [(offset, number) for number, offset in enumerate(offsets) if offset <= at]
        if before:
            entry = entries[max(before)[1]]
            symbol = self._symbols[id(piece)]
            self._place_with(
                entry, _entry_section(entry), [e.Reloc(0, entry.relocs[0].type, symbol, start - symbol.value)]
            )

    def _outside_of(self, target: Target) -> Outside | None:
        """Where the kernel has it, if that is known."""
        before = self._pairs.original(target.piece) if target.piece is not None else None
        try:
            if target.piece is None:
                return self._resolver.external(target.symbol.name) if target.symbol.undefined else None
            return self._resolver.own(before) if before is not None and before.symbol else None
        except AmbiguousError:
            return None

    def _reloc(self, piece: Piece, source: e.Section, reloc: e.Reloc, start: int) -> e.Reloc | None:
        """The relocation as the patch module has it; None if it was refused."""
        target = self._parts.target(source, reloc)
        found, offset = target.piece, reloc.offset - start
        if found is not None and id(found) in self._symbols and not self._stays(source, reloc, target):
            symbol = self._symbols[id(found)]
            return e.Reloc(offset, reloc.type, symbol, target.offset - symbol.value + target.bias)
        entry = self._entries.referred(target)
        if entry is not None and entry.owner is not None and id(entry.owner) in self._included:
            symbol = e.Symbol("", type=e.STT_SECTION, section=self._section_of(entry))
            return e.Reloc(offset, reloc.type, symbol, target.offset - entry.start + target.bias)
        outside = self._resolve(piece, target)
        if outside is None or not self._allowed(piece, source, outside):
            return None
        addend = target.offset + target.bias
        if found is not None and found.symbol is not None:
            addend -= found.symbol.value - found.start
        return e.Reloc(offset, reloc.type, self._undefined(outside, target.symbol), addend)

    def _stays(self, source: e.Section, reloc: e.Reloc, target: Target) -> bool:
        """Whether it is the address of a changed function that has to stay the original's."""
        found = target.piece
        if found is None or id(found) not in self._changed:
            return False
        if is_table(source.name) or is_branch_field(source, reloc):
            return False
        symbol = found.symbol
        if symbol is None or target.offset != symbol.value - found.start:
            return False
        before = self._pairs.original(found)
        return before is not None and id(before) in self._taken

    def _resolve(self, piece: Piece, target: Target) -> Outside | None:
        found = target.piece
        try:
            if found is None and target.symbol.undefined:
                return self._resolver.external(target.symbol.name)
            if found is None:
                self._refuse(piece.name, f"it refers to {target.symbol.name}, which is not in the kernel's memory")
                return None
            before = self._pairs.original(found)
            if before is None or found.symbol is None:
                where = found.section.name
                self._refuse(piece.name, f"it refers into the section {where}, which can't be brought along")
                return None
            if is_over(before.section, self._context.object):
                where = before.section.name
                self._refuse(piece.name, f"it refers to {before.name} in {where}, which the kernel has freed")
                return None
            outside = self._resolver.own(before)
        except AmbiguousError as error:
            self._refuse(piece.name, f"can't tell what it refers to: {error}")
            return None
        if outside.where is Where.UNKNOWN:
            self._refuse(
                piece.name,
                f"it refers to {before.name}, but {outside.object} has no symbol of this name; "
                "build from the source that it was made of",
            )
            return None
        return outside

    def _allowed(self, piece: Piece, source: e.Section, outside: Outside) -> bool:
        """The core module relocates after the module loader has read the special sections: too late for them."""
        if outside.where is not Where.CORE:
            return True
        if source.name in KEYED:
            what = "static branch" if source.name == JUMPS else "static call"
            self._refuse(
                piece.name,
                f"it has a {what} whose key {outside.name} is in the module {outside.object}: the key can't be found "
                "when the patch module is loaded; read the key with static_key_enabled(), or patch another function",
            )
            return False
        if is_table(source.name) or source.name.startswith(".altinstr"):
            self._refuse(
                piece.name,
                f"{source.name} refers to {outside.name} of the module {outside.object}, which can't be found when "
                "the patch module is loaded; patch another function",
            )
            return False
        return True

    def _undefined(self, outside: Outside, like: e.Symbol) -> e.Symbol:
        if outside not in self._outside:
            weak = like.undefined and like.bind == e.STB_WEAK
            symbol = e.Symbol(outside.name, bind=e.STB_WEAK if weak else e.STB_GLOBAL)
            self._outside[outside] = symbol
            self._plan.outside.append((symbol, outside))
        return self._outside[outside]


def _why_along(piece: Piece, pairs: Correlation) -> str:
    if pairs.original(piece) is not None:
        return "it limits how often a message is said; which of the kernel's it is can't be told"
    if pairs.was_separated(piece) and is_message_limit(piece):
        return "it limits how often a message is said, and changed: the one of the patch counts afresh"
    if pairs.was_separated(piece):
        return "a constant that changed: the functions that use it get a copy"
    return "new data"


def _entry_section(entry: Entry) -> e.Section:
    flags = entry.section.flags & (e.SHF_WRITE | e.SHF_ALLOC)
    data = entry.data
    align = _alignment(entry.section, len(data))
    return e.Section(entry.section.name, e.SHT_PROGBITS, flags, align, 0, data, len(data))


def _alignment(section: e.Section, offset: int) -> int:
    """How a part of a section is aligned that begins at *offset*; entries of that size stay without gaps."""
    return min(section.align, offset & -offset) if offset else section.align


def is_branch_field(section: e.Section, reloc: e.Reloc) -> bool:
    """Whether a relocation is that of a call or a jump."""
    if reloc.type == e.R_PC8:
        return section.code
    return section.code and reloc.type in (e.R_PC32, e.R_PLT32) and is_branch(section.data, reloc.offset)


def _output_name(piece: Piece) -> str:
    name = piece.section.name
    if name.startswith(_KEPT):
        return ".data..ro_after_init" if name.startswith(".data..ro") else name
    if piece.code:
        return ".text.unlikely" if name.startswith(".text.unlikely") else ".text"
    if piece.section.type == e.SHT_NOBITS:
        return ".bss"
    if piece.section.flags & e.SHF_WRITE:
        return ".data"
    return ".rodata.str" if piece.kind is Kind.STRING else ".rodata"


def addresses_taken(parts: Parts) -> set[int]:
    """The functions whose address somebody holds, who then may compare it or call through it."""
    taken = set()
    for section in parts.elf.sections:
        if is_table(section.name) or not section.flags & e.SHF_ALLOC or is_dropped(section):
            continue
        for reloc in section.relocs:
            piece = parts.target(section, reloc).piece
            if piece is not None and piece.kind is Kind.FUNCTION and not is_branch_field(section, reloc):
                taken.add(id(piece))
    return taken


def _is_unknown_table(parts: Parts, section: e.Section) -> bool:
    """Nameless data outside of the usual sections, with relocations."""
    if is_table(section.name) or is_dropped(section) or section.name.startswith(READ_AT_BOOT):
        return False
    if section.code or section.name.startswith((".data", ".rodata", ".bss", ".init", ".exit", ".orc_unwind")):
        return False
    return all(piece.kind is Kind.CONSTANT for piece in parts.of(section))
