# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The special sections: tables whose entries belong to functions, and what becomes of them.

The size of an entry differs between series. The kernel's own types tell it (btf.py); where there is no kernel, it is
the smallest after which the relocations repeat themselves.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from ansible_collections.kpatch.fleet.plugins.module_utils.build import elf as e
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import (
    VMLINUX,
    ChangedFunction,
    ElfError,
    Hook,
    ObjectContext,
)
from ansible_collections.kpatch.fleet.plugins.module_utils.build.pieces import Parts, Piece, Target

ORC_IP, ORC = ".orc_unwind_ip", ".orc_unwind"
FENTRY = "__mcount_loc"
ALTERNATIVES = ".altinstructions"
BUGS = "__bug_table"
RUNTIME = "runtime_"
DYNAMIC_DEBUG = "__dyndbg"
JUMPS = "__jump_table"
KEYED = (JUMPS, ".static_call_sites")


@dataclass(frozen=True)
class Table:
    """A special section: how many relocations an entry has at least, whether it says more than the code itself does."""

    relocs: int
    compared: bool = False


# Members by include/linux and arch/x86/include/asm: struct alt_instr, bug_entry, exception_table_entry, jump_entry,
# paravirt_patch_site, static_call_site. What may be there or not comes last: the handler of a 5.10 exception, the
# file of a bug_entry. A WARN that only moved to another line is no change.
TABLES = {
    ALTERNATIVES: Table(1, compared=True),
    BUGS: Table(1, compared=True),
    "__ex_table": Table(2, compared=True),
    JUMPS: Table(3, compared=True),
    ".parainstructions": Table(1, compared=True),
    ".static_call_sites": Table(2, compared=True),
    ".smp_locks": Table(1),
    ".return_sites": Table(1),
    ".retpoline_sites": Table(1),
    ".call_sites": Table(1),
    ORC_IP: Table(1),
    FENTRY: Table(1),
}

_RUNTIME_TABLE = Table(
    1, compared=True
)  # 6.11 and newer: where the value of a variable is in the code, one section per variable
_BUG_WITH_LINE = 12
_TRACERS = {"__fentry__", "mcount"}

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
    "___kcrctab",  # checksums of the exports' types, for modules that will be loaded
    "__kcrctab",
)

# A patch module's own sections of these names would do nothing, or too much: they may not change.
REGISTERED = {
    ".initcall": "the patch changes what runs at boot, which is over",
    ".con_initcall": "the patch changes what runs at boot, which is over",
    ".init": "the patch changes what is used at boot only, which is over",
    ".exit": "the patch changes what is used when the module is removed",
    "__param": "the patch changes a module parameter",
    "__tracepoints": "the patch changes a tracepoint",
    "_ftrace_events": "the patch changes a trace event",
    ".pci_fixup": "the patch changes which PCI devices get which quirk; patch a function that is a quirk already",
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
    "__param",
    ".con_initcall",
    ".pci_fixup",  # lists functions to call, and a call of the original leads to the patch
)

# The running kernel exports what it did: an export more no module that runs knows of, one less stays.
EXPORTS = ("___ksymtab", "__ksymtab", ".export_symbol")

# What only boot uses, and in the kernel itself nothing at all.
BOOT = (".init.text", ".init.data", ".init.rodata")
EXIT = (".exit.text", ".exit.data")


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
    hooks: list[tuple[Hook, e.Symbol]] = field(default_factory=list)
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

    def __init__(self, parts: Parts, file: str, sizes: Mapping[str, int]) -> None:
        """*sizes*: of the entries, by section, as far as they are known."""
        self._parts = parts
        self._listed = any(section.name == FENTRY for section in parts.elf.sections)
        self._by_owner: dict[int, list[Entry]] = defaultdict(list)
        self._by_place: dict[int, list[Entry]] = {}
        orc = next((section for section in parts.elf.sections if section.name == ORC), None)
        for section in parts.elf.sections:
            if is_table(section.name) and section.size:
                entries = _entries(parts, section, file, orc, sizes.get(section.name))
                self._by_place[id(section)] = entries
                for entry in entries:
                    if entry.owner is not None:
                        self._by_owner[id(entry.owner)].append(entry)

    def of(self, piece: Piece) -> list[Entry]:
        """The entries that belong to a piece."""
        return self._by_owner.get(id(piece), [])

    def referred(self, target: Target) -> Entry | None:
        """The entry that a relocation refers to.

        From 6.19 on the code of a WARN with a message hands over its own bug_entry: do_procmap_query of fs/proc.
        """
        if target.piece is None:
            return None
        entries = self._by_place.get(id(target.piece.section), [])
        return next((entry for entry in entries if entry.start <= target.offset < entry.end), None)

    def traceable(self, piece: Piece) -> bool:
        """Whether ftrace can redirect the function: it begins with a call that the kernel knows of.

        Clang, and GCC without -mrecord-mcount, leave it to the link to list the calls.
        """
        if self._listed:
            return any(entry.section.name == FENTRY for entry in self.of(piece))
        return any(reloc.symbol.name in _TRACERS for reloc in self._parts.relocs(piece)[:1])


def is_dropped(section: e.Section) -> bool:
    """Whether nothing of the section goes into a patch module."""
    return section.name.startswith(DROPPED)


def is_over(section: e.Section, owner: str) -> bool:
    """Whether the kernel has freed it: what boot uses, and by what code that is built in would leave.

    A module keeps the latter until it is removed (kernel/module/main.c, with CONFIG_MODULE_UNLOAD).
    """
    return section.name.startswith(".init") or (section.name.startswith(".exit") and owner == VMLINUX)


def stays_whole(name: str) -> bool:
    """Whether a section is taken apart here and not into pieces."""
    return is_table(name) or name == ORC


def _replaces_with_nothing(section: e.Section, start: int, size: int) -> bool:
    """Whether the entry is an alternative that only takes instructions away.

    Where its replacement would be is another function's: in kernel/fork.c of 6.1 one of dup_mmap points at a jump of
    copy_process. The length is the last byte of struct alt_instr; 5.10 has another one behind it, and 13 bytes.
    """
    if section.name != ALTERNATIVES:
        return False
    return section.data[start + (11 if size == 13 else size - 1)] == 0


def without_line(entry: Entry) -> bytes:
    """The bytes of an entry; a bug_entry's without the line, which together with the flags is its end."""
    data = entry.data
    if entry.section.name == BUGS and len(data) >= _BUG_WITH_LINE:
        return data[:-4] + bytes(2) + data[-2:]
    return data


def is_table(name: str) -> bool:
    """Whether a section is a special one, whose entries are known here."""
    return name in TABLES or name.startswith(RUNTIME)


def table_of(name: str) -> Table:
    """What is known of a special section."""
    return TABLES.get(name, _RUNTIME_TABLE)


def _entries(parts: Parts, section: e.Section, file: str, orc: e.Section | None, size: int | None) -> list[Entry]:
    relocs = parts.relocs_between(section, 0, section.size)
    size = size or _period(parts, section, relocs)
    if size is not None and lacks_padding(section, size):
        section.data += bytes(-section.size % size)
        section.size = len(section.data)
    if size is None or section.size % size or not relocs:
        raise ElfError(
            f"{file}: {section.name}: {len(relocs)} relocations in {section.size} bytes: the entries of this kernel's "
            "series are not known to this builder"
        )
    entries = []
    for number, start in enumerate(range(0, section.size, size)):
        own = parts.relocs_between(section, start, start + size)
        if not own or own[0].offset != start:
            raise ElfError(f"{file}: {section.name}: entry {number} does not begin with a relocation")
        if _replaces_with_nothing(section, start, size):
            own = own[:1]
        owner = parts.target(section, own[0]).piece
        companion = None
        if section.name == ORC_IP and orc is not None:
            width = orc.size * size // section.size
            companion = (orc, number * width, (number + 1) * width)
        entries.append(Entry(section, start, start + size, own, owner, companion))
    return entries


def lacks_padding(section: e.Section, size: int) -> bool:
    """Whether a section ends with its last entry's last field: 5.10's .parainstructions, 12 bytes of 16."""
    return section.name == ".parainstructions" and section.size % size == 12 and size == 16


def _period(parts: Parts, section: e.Section, relocs: list[e.Reloc]) -> int | None:
    """The size of an entry, told by the relocations: each begins with one that points at code, and all are alike."""
    at_code = {
        reloc.offset
        for reloc in relocs
        if (piece := parts.target(section, reloc).piece) is not None and (piece.code or section.name == FENTRY)
    }
    least = table_of(section.name).relocs
    for size in sorted({reloc.offset for reloc in relocs[1:]} | {section.size}):
        if not size or section.size % size or not all(start in at_code for start in range(0, section.size, size)):
            continue
        patterns: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for reloc in relocs:
            patterns[reloc.offset // size].append((reloc.offset % size, reloc.type))
        first = patterns[0]
        if len(first) >= least and all(pattern == first for pattern in patterns.values()):
            return size
    return None
