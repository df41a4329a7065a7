# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From two object files of one source file to what a patch module has to bring: the functions that changed.

Everything that can't be patched is collected, so that all of it is reported at once.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from ansible_collections.kpatch.fleet.plugins.module_utils.build import elf as e
from ansible_collections.kpatch.fleet.plugins.module_utils.build import marks as author
from ansible_collections.kpatch.fleet.plugins.module_utils.build.compare import Comparison, compare
from ansible_collections.kpatch.fleet.plugins.module_utils.build.constants import Users, may_be_copied
from ansible_collections.kpatch.fleet.plugins.module_utils.build.correlate import (
    Correlation,
    is_copied,
    stem,
)
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import (
    VMLINUX,
    Added,
    ChangedFunction,
    Difference,
    ElfError,
    Gone,
    Hook,
    ObjectContext,
    ObjectDiff,
    Refusal,
    known,
)
from ansible_collections.kpatch.fleet.plugins.module_utils.build.pieces import Kind, Parts, Piece, Target
from ansible_collections.kpatch.fleet.plugins.module_utils.build.resolve import Resolver
from ansible_collections.kpatch.fleet.plugins.module_utils.build.selection import Selection, addresses_taken
from ansible_collections.kpatch.fleet.plugins.module_utils.build.special import (
    BOOT,
    DYNAMIC_DEBUG,
    EXIT,
    EXPORTS,
    REGISTERED,
    Entries,
    Where,
    is_dropped,
    is_over,
    stays_whole,
)
from ansible_collections.kpatch.fleet.plugins.module_utils.build.symtab import AmbiguousError

_COLD = re.compile(r"\.cold(\.\d+)?$")
_DATA = (".data", ".rodata", ".bss")
_NOT_EXPORTED = "the patch exports a symbol, which no module that runs knows of; it is not exported"
_NO_LONGER_EXPORTED = (
    "the patch exports a symbol no longer, or in another way; the running kernel goes on exporting it as it did"
)
_MARK = "mend the name, or leave the mark out"
# What a kernel thread asks in its loop (include/linux/kthread.h).
_ASKED_BY_THREADS = {"kthread_should_stop", "kthread_should_stop_or_park", "kthread_freezable_should_stop"}
_SLEPT_IN = (
    "it asks whether its kernel thread should stop: if one sleeps in it for as long as it lives, no switch that checks "
    "stacks ever comes; patch what it calls instead, or force it"
)
_UNUSED = {"_entry", "_entry_ptr"}  # of the printk index: holds line numbers, and no code refers to it


def diff_objects(original: Path, patched: Path, context: ObjectContext) -> ObjectDiff:
    """Compare two object files, both compiled with -ffunction-sections -fdata-sections -g0.

    ElfError if one can't be understood. The result has a plan only if it has no refusals.
    """
    return diff_parsed(e.read(original), e.read(patched), context)


def diff_parsed(original: e.Elf, patched: e.Elf, context: ObjectContext) -> ObjectDiff:
    """The same, of files that were read."""
    try:
        return _Differ(original, patched, context).diff()
    except RecursionError as error:
        raise ElfError(f"{context.source}: its constants refer to one another without end") from error


class _Differ:
    """The work of diff_objects, step by step."""

    def __init__(self, original: e.Elf, patched: e.Elf, context: ObjectContext) -> None:
        self.context = context
        self.original, self.patched = Parts(original, stays_whole), Parts(patched, stays_whole)
        self.pairs = Correlation(self.original, self.patched)
        self.entries = (
            Entries(self.original, context.source, context.sizes),
            Entries(self.patched, context.source, context.sizes),
        )
        self.marks = author.read(patched, context.source)
        self.vouched: dict[Piece, str] = {}  # functions that changed and are to be left alone, and how they did
        self.users = (Users(self.original), Users(self.patched))
        self.taken = addresses_taken(self.original)
        self.replacing: list[Piece] = []  # the functions whose code is another one with the patch
        self.comparison = self.separate_constants()
        self.resolver = Resolver(context, self.original)
        self.result = ObjectDiff(context)

    def diff(self) -> ObjectDiff:
        """The whole of it."""
        changed = self.changed_functions()
        carried = self.carry_to_callers(changed)
        new = self.new_functions()
        self.result.removed = [
            piece.name
            for piece in self.original
            if piece.kind is Kind.FUNCTION and self.pairs.patched(piece) is None and not _COLD.search(piece.name)
        ]
        lost = [piece for piece in self.original if self.is_gone(piece)]
        self.result.gone = [self.gone_one(piece) for piece in lost if self.is_meant_elsewhere(piece)]
        self.result.lost_callbacks = [piece.name for piece in lost if not self.is_meant_elsewhere(piece)]
        self.result.lost_variables = self.variables_alone(self.original, self.pairs.patched)
        self.result.new_variables = self.variables_alone(self.patched, self.pairs.original)
        self.note_differences(changed, carried, new)
        all_code = (*changed, *carried, *new)
        self.replacing = [piece for piece in all_code if not self.is_over(piece)]
        self.check_data()
        self.check_registered()
        self.check_exit()
        self.result.hooks = self.hooks(new)
        accepted = [piece for piece, reason in changed.items() if self.accept(piece, reason)]
        for piece in (*accepted, *new, *carried):
            self.check_tied(piece)
        for piece in new:
            self.note_added(piece, "new function")
        for piece in carried:
            self.note_added(piece, "it changed, and its callers are replaced with it")
        self.check_marks()
        sides = (self.original, self.patched), self.pairs, self.entries
        selection = Selection(self.context, *sides, self.resolver, self.marks)
        plan = selection.plan(accepted, [*new, *carried], self.result)
        self.result.refusals = sorted(set(self.result.refusals), key=str)
        self.result.plan = None if self.result.refusals else plan
        return self.result

    def separate_constants(self) -> Comparison:
        """Tell changed constants of which the patch may bring a copy from the originals; who uses them has changed."""
        while True:
            comparison = compare(self.original, self.patched, self.pairs, self.entries, self.context.lines_move)
            apart = [piece for piece in self.patched if self.can_be_copied(comparison, piece)]
            if not apart:
                return comparison
            for piece in apart:
                self.pairs.separate(piece)

    def can_be_copied(self, comparison: Comparison, piece: Piece) -> bool:
        """Whether it changed, and all its users can be replaced with one of their own."""
        before = self.pairs.original(piece)
        if (
            before is None
            or not may_be_copied(piece)
            or self.marks.ignore(piece)
            or is_copied(piece)
            or comparison.same(before, piece)
        ):
            return False
        return self.why_shared(before, piece) is None

    def why_shared(self, before: Piece, piece: Piece) -> str | None:
        """Why changed data can't be replaced by a copy."""
        return self.users[0].why_shared(before) or self.users[1].why_shared(piece)

    def refuse(self, what: str, reason: str) -> None:
        """One more reason why it can't be done."""
        self.result.refusals.append(Refusal(self.context.source, what, reason))

    def changed_functions(self) -> dict[Piece, str]:
        """The functions of the patched file that differ from their originals, and how they do."""
        changed: dict[Piece, str] = {}
        by_name = {piece.name: piece for piece in self.patched if piece.kind is Kind.FUNCTION}
        for piece in by_name.values():
            before = self.pairs.original(piece)
            reason = self.comparison.function(before, piece) if before else None
            parent = by_name.get(_COLD.sub("", piece.name)) if _COLD.search(piece.name) else None
            into = self.vouched if self.marks.ignore(parent or piece) else changed
            if parent is None and reason:
                into[piece] = reason
            elif parent is not None and (reason or not before) and self.pairs.original(parent):
                into.setdefault(parent, "its .cold part changed")
        return changed

    def carry_to_callers(self, changed: dict[Piece, str]) -> list[Piece]:
        """Take those out of *changed* that ftrace can't redirect but whose callers are all known, who replace them.

        Such are static inline functions that were too big to be inlined: the kernel's `inline` implies notrace.
        """
        carried, work = [], list(changed)
        for piece in work:
            before = self.pairs.original(piece)
            if before is None or id(before) in self.taken or not self._private(before):
                continue
            callers = self._callers(piece)
            if not callers:
                continue
            carried.append(piece)
            del changed[piece]
            for caller in callers:
                if caller not in changed and caller not in carried:
                    changed[caller] = f"it calls {piece.name}, which changed and can't be redirected by itself"
                    work.append(caller)
        return carried

    def _private(self, before: Piece) -> bool:
        """Whether a function can't be redirected, nor called from other object files."""
        symbol = before.symbol
        own = symbol is not None and symbol.bind == e.STB_LOCAL and not self.is_over(before)
        return own and not self.is_untraced_exit(before) and not self.entries[0].traceable(before)

    def _callers(self, callee: Piece) -> list[Piece]:
        """The functions that exist already and call *callee*; a call in a .cold part is its function's."""
        by_name = {piece.name: piece for piece in self.patched if piece.kind is Kind.FUNCTION}
        callers: list[Piece] = []
        for piece in by_name.values():
            function = by_name.get(_COLD.sub("", piece.name), piece)
            known = self.pairs.original(function) is not None and not function.section.name.startswith(".init")
            if not known or function is callee or function in callers:
                continue
            targets = (self.patched.target(piece.section, reloc) for reloc in self.patched.relocs(piece))
            if any(target.piece is callee for target in targets):
                callers.append(function)
        return callers

    def note_differences(self, changed: Mapping[Piece, str], carried: Iterable[Piece], new: Iterable[Piece]) -> None:
        """Note what differs, whether it can be patched or not."""
        self.result.notes += [
            Added(self.context.object, name, "it differs in line numbers alone, which is no change")
            for name in self.comparison.moved
        ]
        self.result.notes += [self.vouch(piece, reason) for piece, reason in self.vouched.items()]
        changed = {**changed, **self.vouched}
        found = [("changed", "function", piece.name, reason) for piece, reason in changed.items()]
        found += [("changed", "function", piece.name, "its code changed") for piece in carried]
        found += [("new", "function", piece.name, "only the patched file has it") for piece in new]
        found += [("removed", "function", name, "only the original file has it") for name in self.result.removed]
        found += [
            ("removed", "data", piece.name, "only the original file has it")
            for piece in self.original
            if _is_plain_data(piece) and self.pairs.patched(piece) is None and not self.pairs.was_separated(piece)
        ]
        for piece in filter(_is_plain_data, self.patched):
            before = self.pairs.original(piece)
            differs = before and stem(piece.name) not in _UNUSED and not self._same_data(before, piece)
            if differs or self.pairs.was_separated(piece):
                found.append(("changed", "data", piece.name, "its initial value changed"))
            elif before is None:
                found.append(("new", "data", piece.name, "only the patched file has it"))
        self.result.differences = [Difference(*each) for each in found]

    def vouch(self, piece: Piece, reason: str) -> Added:
        """The note that something changed and stays as it is."""
        return Added(self.context.object, piece.name, f"{reason}, but the patch says to ignore that: it stays as it is")

    def new_functions(self) -> list[Piece]:
        """The functions that the original file does not have."""
        return [
            piece
            for piece in self.patched
            if piece.kind is Kind.FUNCTION
            and self.pairs.original(piece) is None
            and not _COLD.search(piece.name)
            and (self.is_exit_code(piece) or not piece.section.name.startswith(tuple(REGISTERED)))
            and not is_dropped(piece.section)
        ]

    def variables_alone(self, parts: Parts, counterpart: Callable[[Piece], Piece | None]) -> list[str]:
        """The variables that only one of the files has."""
        alone = (piece for piece in parts if counterpart(piece) is None and not self.pairs.was_separated(piece))
        return [piece.name for piece in alone if _is_variable(piece)]

    def is_gone(self, piece: Piece) -> bool:
        """Whether it is a function that the patched file has no more, and that others may call by name or address."""
        if piece.kind is not Kind.FUNCTION or piece.symbol is None or self.is_over(piece):
            return False
        called = piece.symbol.bind != e.STB_LOCAL or id(piece) in self.taken
        return called and self.pairs.patched(piece) is None

    def is_meant_elsewhere(self, piece: Piece) -> bool:
        """Whether a function of its name in another file is the same one: no static one has it for itself."""
        static = piece.symbol is None or piece.symbol.bind == e.STB_LOCAL
        return not static or any(symbol.undefined and symbol.name == piece.name for symbol in self.patched.elf.symbols)

    def gone_one(self, piece: Piece) -> Gone:
        """A function that another file may have got, and why it can't be redirected if it can't."""
        try:
            sympos, why = self.resolver.sympos(piece), None
        except AmbiguousError as error:
            sympos, why = None, f"it can't be told which function it was: {error}"
        if not self.entries[0].traceable(piece):
            why = "it has no call to __fentry__"
        elif sympos is None and why is None:
            why = f"{self.context.object} has no symbol of this name"
        return Gone(ChangedFunction(self.context.object, piece.name, sympos or 0, "it moves to another file"), why)

    def is_over(self, piece: Piece) -> bool:
        """Whether it will not run any more."""
        return is_over(piece.section, self.context.object)

    def is_exit_code(self, piece: Piece) -> bool:
        """Whether a module runs it when it is removed."""
        return piece.code and piece.section.name.startswith(".exit") and not self.is_over(piece)

    def is_untraced_exit(self, piece: Piece) -> bool:
        """Whether it is what a module runs last, and ftrace does not see it: it is replaced in struct module."""
        return piece.runs_last and self.is_exit_code(piece)

    def accept(self, piece: Piece, reason: str) -> bool:
        """Whether a changed function can be replaced in the running kernel; says so, one way or the other."""
        before = known(self.pairs.original(piece), "a changed function has an original")
        symbol, exits = before.symbol, self.is_untraced_exit(before)
        if not exits and any(each.section.name.startswith((".init", ".exit")) for each in (before, piece)):
            self.leave(before, piece)
            return False
        if symbol is not None and symbol.bind == e.STB_WEAK and not self.context.symbols.is_weak(symbol.name):
            self.refuse(piece.name, "it is a weak function that another one overrides; patch that one")
            return False
        if not exits and not self.entries[0].traceable(before):
            self.refuse(
                piece.name,
                f"{reason}, but it has no call to __fentry__ (notrace, noinstr or assembly), so that ftrace can't "
                "redirect it; patch the functions that call it",
            )
            return False
        try:
            sympos = self.resolver.sympos(before)
        except AmbiguousError as error:
            self.refuse(piece.name, f"can't tell which function to replace: {error}")
            return False
        if sympos is None:
            self.refuse(
                piece.name, f"{self.context.object} has no symbol of this name; build from the source it was made of"
            )
            return False
        forced = self.marks.forces(before.name)
        self.result.changed.append(ChangedFunction(self.context.object, before.name, sympos, reason, forced, exits))
        if self.is_loop_of_thread(before) and not forced:
            self.result.notes.append(Added(self.context.object, before.name, _SLEPT_IN))
        return True

    def is_loop_of_thread(self, piece: Piece) -> bool:
        """Whether it seems to be what a kernel thread runs until it ends: scsi_error_handler(), for each SCSI host."""
        return any(target.symbol.name in _ASKED_BY_THREADS for target in self._targets(self.original, piece))

    def leave(self, before: Piece | None, piece: Piece) -> None:
        """Leave as it is what has run and is gone, or say why that would not do."""
        sections = {each.section.name for each in (before, piece) if each is not None}
        ignored = f"{author.IGNORED['ignore_function']}({author.source_name(piece.name)})"
        if sections <= set(EXIT) and self.context.object == VMLINUX:
            reason = "it is __exit code, which never runs where it is built into the kernel"
            self.result.left.append(Added(self.context.object, piece.name, reason))
        elif not sections <= set(BOOT):
            kind = "__exit" if any(name.startswith(".exit") for name in sections) else "__init"
            mend = f"leave it as it is, or say {ignored} if what the kernel has will do" if before else "leave it out"
            self.refuse(piece.name, f"it is {kind} code, or was, and can't be redirected; {mend}")
        elif (lacking := self.set_up_by(before, piece)) is not None:
            self.refuse(
                piece.name,
                f"it is __init code, which a running kernel has left behind, and would now see to {lacking}, which the "
                f"patch uses; do that in a pre_patch hook, and say {ignored}",
            )
        else:
            reason = "it is __init code, which a running kernel has left behind"
            self.result.left.append(Added(self.context.object, piece.name, reason))

    def set_up_by(self, before: Piece | None, piece: Piece) -> str | None:
        """What changed boot code refers to now that the patch brings, or of which what it replaces makes use.

        An __init function that allocates a work queue in a new variable: who queues work there must not be patched in.
        """
        before_too = {(id(target.piece), target.offset) for target in self._targets(self.original, before)}
        used = {id(target.piece) for each in self.replacing for target in self._targets(self.patched, each)}
        for target in self._targets(self.patched, piece):
            found = target.piece
            if found is None:
                if self._is_nowhere(target.symbol):
                    return target.symbol.name
                continue
            if is_copied(found) or found.section.name.startswith((".init", ".exit")):
                continue
            original = self.pairs.original(found)
            shared = found.section.flags & e.SHF_WRITE and id(found) in used
            if original is None or (shared and (id(original), target.offset) not in before_too):
                return author.source_name(found.name)
        return None

    def _targets(self, parts: Parts, piece: Piece | None) -> list[Target]:
        return [] if piece is None else [parts.target(piece.section, reloc) for reloc in parts.relocs(piece)]

    def _is_nowhere(self, symbol: e.Symbol) -> bool:
        """Whether the kernel, if there is one, has no such symbol: another file of the patch defines it."""
        if not symbol.undefined or not self.context.exports:
            return False
        try:
            return self.resolver.external(symbol.name).where is Where.UNKNOWN
        except AmbiguousError:
            return False

    def check_tied(self, piece: Piece) -> None:
        """Refuse code that would lose its way in another place."""
        tied = self.patched.tied(piece)
        if tied is not None:
            self.refuse(
                piece.name,
                f"it branches to {tied.name} within {piece.section.name}, so that its code can't be moved into a "
                "patch module; patch the functions that call it",
            )

    def note_added(self, piece: Piece, reason: str) -> None:
        """Note a function that the patch brings along."""
        self.result.added_functions.append(Added(self.context.object, piece.name, reason))

    def check_data(self) -> None:
        """Data that exists can't be initialised anew: it is in use."""
        for piece in self.patched:
            if not _is_plain_data(piece):
                continue
            before = self.pairs.original(piece)
            per_cpu = piece.section.name.startswith(".data..percpu")
            if before is None:
                if per_cpu:
                    self.refuse(piece.name, "it is new per-cpu data, which a patch module can't add; use plain data")
            elif stem(piece.name) not in _UNUSED and not self._same_data(before, piece):
                if self.marks.ignore(piece):
                    self.result.notes.append(self.vouch(piece, "the initial value of existing data changed"))
                    continue
                self.refuse(
                    piece.name, f"the initial value of existing data changed, but {self.why_shared(before, piece)}"
                )

    def _same_data(self, before: Piece, piece: Piece) -> bool:
        flags = e.SHF_WRITE
        kind = (before.section.flags & flags) == (piece.section.flags & flags)
        return kind and self.comparison.same(before, piece)

    def check_registered(self) -> None:
        """Lists that the kernel reads when it boots or loads a module: what they say may not change."""
        before, after = self._registered(self.original), self._registered(self.patched)
        for name in sorted(before.keys() | after.keys()):
            old, new = before.get(name, []), after.get(name, [])
            same = len(old) == len(new) and all(self._same_registered(*pair) for pair in zip(old, new))
            if same:
                continue
            if self.marks.ignore_section(name):
                self.result.notes.append(self.vouch((new or old)[0], f"the section {name} changed"))
                continue
            if name in BOOT or (name in EXIT and self.context.object == VMLINUX):
                self.leave_all(new)
                continue
            if name.startswith(EXPORTS):
                self.result.notes += self.exports(old, new)
                continue
            reasons = [reason for prefix, reason in REGISTERED.items() if name.startswith(prefix)]
            what = next((piece.name for piece in new if self.pairs.original(piece) is None), name)
            self.refuse(what, reasons[0] if reasons else f"the section {name} changed; leave it as it is")

    def check_exit(self) -> None:
        """What a module runs last may change, and not become another function, or none."""
        ends = [[piece for piece in parts if piece.runs_last] for parts in (self.original, self.patched)]
        before, after = (end[0] if end else None for end in ends)
        if after is not None and self.pairs.original(after) is not before:
            self.refuse(after.name, "it becomes the exit function of its module; change the one that there is")
        elif before is not None and self.pairs.patched(before) is not after:
            self.refuse(before.name, "it is no longer the exit function of its module; leave that as it is")

    def leave_all(self, pieces: Iterable[Piece]) -> None:
        """Leave what changed of a section that has been used; changed functions in it are left by accept()."""
        for piece in pieces:
            before = self.pairs.original(piece)
            if before is None or (piece.kind is not Kind.FUNCTION and not self.comparison.same(before, piece)):
                self.leave(before, piece)

    def exports(self, old: Iterable[Piece], new: Iterable[Piece]) -> list[Added]:
        """The notes that the running kernel goes on exporting what it does."""
        lost = [before for before in old if not self._is_exported_alike(before)]
        fresh = [piece for piece in new if self.pairs.original(piece) is None]
        return [Added(self.context.object, piece.name, _NO_LONGER_EXPORTED) for piece in lost] + [
            Added(self.context.object, piece.name, _NOT_EXPORTED) for piece in fresh
        ]

    def _is_exported_alike(self, before: Piece) -> bool:
        after = self.pairs.patched(before)
        return after is not None and self.comparison.same(before, after)

    def hooks(self, new: Iterable[Piece]) -> list[Hook]:
        """The hooks, each a new function."""
        names = {piece.name for piece in new}
        found = []
        for kind, name in self.marks.hooks:
            if name in names:
                found.append(Hook(self.context.source, self.context.object, kind, name))
            else:
                self.refuse(name, f"it is a {kind} hook, but not a new function of the patch; make one that calls it")
        return found

    def check_marks(self) -> None:
        """A mark about something that is not there is a misspelt one, or one for another kernel."""
        there = {
            "ignore_function": {author.source_name(p.name) for p in self.original if p.kind is Kind.FUNCTION},
            "ignore_data": {author.source_name(p.name) for p in self.original if p.kind is Kind.DATA},
            "ignore_section": {section.name for p in (self.original, self.patched) for section in p.elf.sections},
        }
        for kind, names in there.items():
            for name in sorted(self.marks.names(kind) - names):
                self.refuse(name, f"the patch says {author.IGNORED[kind]}, but this kernel's file has no such; {_MARK}")
        forced = {author.source_name(function.name) for function in self.result.changed}
        for name in sorted(self.marks.names(author.FORCE) - forced):
            self.refuse(name, f"the patch forces it, but does not replace it in this kernel; {_MARK}")

    def _same_registered(self, before: Piece, after: Piece) -> bool:
        if before.kind is Kind.FUNCTION and after.kind is Kind.FUNCTION:
            return self.pairs.original(after) is before  # a change within is told by accept()
        return self.comparison.same(before, after)

    def _registered(self, parts: Parts) -> dict[str, list[Piece]]:
        found: dict[str, list[Piece]] = defaultdict(list)
        for piece in parts:
            name = piece.section.name
            plain = name.startswith(_DATA) or name == DYNAMIC_DEBUG or piece.kind in (Kind.STRING, Kind.TABLE)
            registered_code = name.startswith(tuple(REGISTERED))
            ordinary_code = piece.code and (self.is_exit_code(piece) or not registered_code)
            if plain or is_dropped(piece.section) or ordinary_code:
                continue
            found[name].append(piece)
        return found


def _is_variable(piece: Piece) -> bool:
    """Whether it can be written to, and its name is the source's alone: a function's own are numbered."""
    return _is_plain_data(piece) and bool(piece.section.flags & e.SHF_WRITE) and stem(piece.name) == piece.name


def _is_plain_data(piece: Piece) -> bool:
    """Whether it is a variable, or a constant that has its own name."""
    return piece.kind is Kind.DATA and not is_copied(piece) and piece.section.name.startswith(_DATA)
