# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The special sections: tables whose entries belong to functions, and what becomes of them.

The size of an entry differs between series, the number of its relocations does not (6.1 to 6.12): the size is
that of the section divided by the number of entries, and each entry has to begin with a relocation.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from enum import Enum

from ansible_collections.kpatch.fleet.plugins.module_utils.build import elf as e
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import (
    ChangedFunction,
    ElfError,
    ObjectContext,
)
from ansible_collections.kpatch.fleet.plugins.module_utils.build.pieces import Parts, Piece

ORC_IP, ORC = ".orc_unwind_ip", ".orc_unwind"
FENTRY = "__mcount_loc"
ALTERNATIVES = ".altinstructions"
DYNAMIC_DEBUG = "__dyndbg"
KEYED = ("__jump_table", ".static_call_sites")


@dataclass(frozen=True)
class Table:
    """A special section: how many relocations an entry has, whether it says more than the code itself does."""

    relocs: int
    compared: bool = False
    ignored: tuple[int, int] = (0, 0)  # the bytes of an entry, from and to, that are no difference


# Members by include/linux and arch/x86/include/asm of 6.1 and 6.12: struct alt_instr, bug_entry,
# exception_table_entry, jump_entry, paravirt_patch_site, static_call_site. A WARN that only moved to another
# line is no change: the line is in bytes 8 and 9 of a bug_entry.
TABLES = {
    ALTERNATIVES: Table(2, compared=True),
    "__bug_table": Table(2, compared=True, ignored=(8, 10)),
    "__ex_table": Table(2, compared=True),
    "__jump_table": Table(3, compared=True),
    ".parainstructions": Table(1, compared=True),
    ".static_call_sites": Table(2, compared=True),
    ".smp_locks": Table(1),
    ".return_sites": Table(1),
    ".retpoline_sites": Table(1),
    ".call_sites": Table(1),
    ORC_IP: Table(1),
    FENTRY: Table(1),
}

# What the patch module does without: lists that the build system or the boot reads, marks that forbid
# (a function that is not sealed can be called all the same), and what the original goes on providing. On x86
# the patchable function entries are the padding before functions, which notrace ones have too.
DROPPED = (
    ".discard",
    ".ibt_endbr_seal",
    ".cfi_sites",
    "__patchable_function_entries",
    ".orc_header",
    ".comment",
    ".note",
    ".modinfo",
    ".printk_index",
    ".BTF_ids",
    ".llvm",
)

# A patch module's own sections of these names would do nothing, or too much: they may not change.
REGISTERED = {
    "___ksymtab": "the patch exports a symbol or no longer does; leave the exports as they are",
    "__ksymtab": "the patch exports a symbol or no longer does; leave the exports as they are",
    ".export_symbol": "the patch exports a symbol or no longer does; leave the exports as they are",
    ".initcall": "the patch changes what runs at boot, which is over",
    ".con_initcall": "the patch changes what runs at boot, which is over",
    ".init": "the patch changes what is used at boot only, which is over",
    ".exit": "the patch changes what is used when the module is removed",
    "__param": "the patch changes a module parameter",
    "__tracepoints": "the patch changes a tracepoint",
    "_ftrace_events": "the patch changes a trace event",
    ".static_call.text": "the patch changes a static call's definition",
    ".data..percpu": "the patch changes per-cpu data, which a module that is loaded later can't replace",
}

# Tables that the kernel reads of itself only, so that an entry may be left out.
READ_AT_BOOT = (
    "___ksymtab",
    "__ksymtab",
    ".export_symbol",
    ".initcall",
    "_kprobe_blacklist",
    "_error_injection_whitelist",
    "__kcrctab",
    "__param",
    ".con_initcall",
)


class Where(Enum):
    """How a symbol outside of the patch module is resolved."""

    EXPORT = "export"  # by the module loader, as for any module
    LIVEPATCH = "livepatch"  # by the module loader, through .klp.rela.vmlinux.*
    CORE = "core"  # by the core module, a struct kpatch_reloc
    UNKNOWN = "unknown"  # by another object file of the patch, or not at all


@dataclass(frozen=True)
class Outside:
    """A symbol that the patch module does not bring along."""

    where: Where
    object: str
    name: str
    sympos: int = 0


@dataclass
class Plan:
    """What one object file gives to the patch module.

    Each piece is a section of its own, named as the section that it goes into. Symbols of `outside` are
    undefined; all others are local and defined in one of `sections`.
    """

    context: ObjectContext
    sections: list[e.Section] = field(default_factory=list)
    symbols: list[e.Symbol] = field(default_factory=list)
    functions: list[tuple[ChangedFunction, e.Symbol]] = field(default_factory=list)
    outside: list[tuple[e.Symbol, Outside]] = field(default_factory=list)
    added: list[e.Symbol] = field(default_factory=list)  # new global symbols: other object files may refer to them


@dataclass(eq=False)
class Entry:
    """One entry of a special section; the piece that its first relocation points into owns it."""

    section: e.Section
    start: int
    end: int
    relocs: list[e.Reloc]
    owner: Piece | None
    companion: tuple[e.Section, int, int] | None = None  # of .orc_unwind_ip: section, start, end in .orc_unwind

    @property
    def data(self) -> bytes:
        """Its bytes."""
        return self.section.data[self.start : self.end]


class Entries:
    """The entries of all special sections of an object file, by owner."""

    def __init__(self, parts: Parts, file: str) -> None:
        self._by_owner: dict[int, list[Entry]] = defaultdict(list)
        orc = next((section for section in parts.elf.sections if section.name == ORC), None)
        for section in parts.elf.sections:
            if section.name in TABLES and section.size:
                for entry in _entries(parts, section, file, orc):
                    if entry.owner is not None:
                        self._by_owner[id(entry.owner)].append(entry)

    def of(self, piece: Piece) -> list[Entry]:
        """The entries that belong to a piece."""
        return self._by_owner.get(id(piece), [])

    def traceable(self, piece: Piece) -> bool:
        """Whether ftrace can redirect the function: it begins with a call that the kernel knows of."""
        return any(entry.section.name == FENTRY for entry in self.of(piece))


def is_dropped(section: e.Section) -> bool:
    """Whether nothing of the section goes into a patch module."""
    return section.name.startswith(DROPPED)


def tables() -> set[str]:
    """The names of the special sections."""
    return {*TABLES, ORC}


def _replaces_with_nothing(section: e.Section, start: int, size: int) -> bool:
    """Whether the entry is an alternative that only takes instructions away.

    Where its replacement would be is another function's: in kernel/fork.c of 6.1 one of dup_mmap points at a jump of
    copy_process. The length is the last byte of struct alt_instr; 5.10 has another one behind it, and 13 bytes.
    """
    if section.name != ALTERNATIVES:
        return False
    return section.data[start + (11 if size == 13 else size - 1)] == 0


def _entries(parts: Parts, section: e.Section, file: str, orc: e.Section | None) -> list[Entry]:
    relocs = parts.relocs_between(section, 0, section.size)
    per_entry = TABLES[section.name].relocs
    count = len(relocs) // per_entry
    if not count or len(relocs) % per_entry or section.size % count:
        raise ElfError(
            f"{file}: {section.name}: {len(relocs)} relocations in {section.size} bytes: entries of this kernel's "
            "series are not known to this builder"
        )
    size = section.size // count
    entries = []
    for number in range(count):
        own = relocs[number * per_entry : (number + 1) * per_entry]
        start = number * size
        if own[0].offset != start or own[-1].offset >= start + size:
            raise ElfError(f"{file}: {section.name}: entry {number} does not begin with a relocation")
        if _replaces_with_nothing(section, start, size):
            own = own[:1]
        owner = parts.target(section, own[0]).piece
        companion = None
        if section.name == ORC_IP and orc is not None:
            width = orc.size // count
            companion = (orc, number * width, (number + 1) * width)
        entries.append(Entry(section, start, start + size, own, owner, companion))
    return entries
