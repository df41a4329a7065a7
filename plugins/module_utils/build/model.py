# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What passes between the compiling half of the builder and the half that reads and writes ELF.

Order of use, once per patch:

1. ``symtab.read_symbols(path)`` for the vmlinux and each module that is patched;
2. ``diff.diff_objects(original, patched, context)`` for each object file that the patch touches;
3. if any diff has refusals, report them all and stop;
4. ``emit.emit(diffs, out)``, which may still raise ``RefusedError`` for what only the whole shows;
5. glue C, generated from the ``EmittedObject``, then ``ld -r -T module.lds``;
6. ``finish.finish(linked, out)``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from ansible_collections.kpatch.fleet.plugins.module_utils.build.special import Plan
    from ansible_collections.kpatch.fleet.plugins.module_utils.build.symtab import SymbolTable

VMLINUX = "vmlinux"


class BuildError(Exception):
    """The build can't go on; the text names the thing and the mend."""

    said: str = ""  # all that the program said that failed; the text has only its end


class ElfError(BuildError):
    """A file is not the ELF file that it has to be; the text names file, place and what is wrong."""


_T = TypeVar("_T")


def known(value: _T | None, why: str) -> _T:
    """*value*, which is never None here; *why* says so. AssertionError if this reasoning is wrong."""
    if value is None:
        raise AssertionError(why)
    return value


@dataclass(frozen=True)
class Refusal:
    """One reason why a patch module can't be made."""

    file: str
    function: str  # the function, or the data or section when no function is meant
    reason: str  # with the mend, where there is one

    def __str__(self) -> str:
        return f"{self.file}: {self.function}: {self.reason}"


class RefusedError(BuildError):
    """The patch can't become a patch module; `refusals` holds every reason.

    `differences` is all that differs between the object files; None if not all of them could be compared.
    """

    def __init__(self, refusals: list[Refusal], differences: list[Difference] | None = None) -> None:
        super().__init__("; ".join(str(refusal) for refusal in refusals))
        self.refusals = refusals
        self.differences = differences


class Export(NamedTuple):
    """One line of Module.symvers."""

    crc: int
    module: str  # "vmlinux" or the name of the module (underscores, no path) that exports it
    kind: str  # EXPORT_SYMBOL or EXPORT_SYMBOL_GPL
    namespace: str = ""


@dataclass(frozen=True)
class ObjectContext:
    """Where the object files of a pair belong."""

    source: str  # "fs/proc/meminfo.c": named in refusals; its basename finds the FILE group
    object: str  # "vmlinux", or the name of the module that the object file is linked into
    exports: Mapping[str, Export]  # by symbol
    symbols: SymbolTable  # of `object`: the vmlinux or the module's .ko, best of the symbols package
    vmlinux: SymbolTable  # the same table when `object` is "vmlinux"
    sizes: Mapping[str, int] = field(default_factory=dict)  # of special sections' entries; see btf.entry_sizes()
    lengths: Mapping[str, int] | None = None  # of functions before static branches were given room; None if none were
    lines_move: bool = False  # whether nobody has seen to it, by #line, that __LINE__ stays as it was
    depends: frozenset[str] = frozenset()  # modules that are there whenever `object` is


def is_there(owner: str, context: ObjectContext) -> bool:
    """Whether *owner* is in memory whenever the object of *context* is, so that code added to it works there."""
    return owner in (VMLINUX, context.object) or owner in context.depends


@dataclass(frozen=True)
class ChangedFunction:
    """A function of the running kernel that the patch replaces."""

    object: str
    name: str
    sympos: int
    reason: str
    forced: bool = False  # whether it is replaced under the tasks that are in it
    exit: bool = False  # whether it is the exit function of its module


@dataclass(frozen=True)
class Gone:
    """A function that a file has no more, which others may call; `why_not` is why it can't be redirected, if so."""

    function: ChangedFunction
    why_not: str | None = None


@dataclass(frozen=True)
class Hook:
    """A function of the patch that is called when its object is switched."""

    source: str
    object: str
    kind: str  # one of marks.HOOKS
    name: str


@dataclass(frozen=True)
class Added:
    """A function or data that the patch brings along."""

    object: str
    name: str
    reason: str


@dataclass(frozen=True)
class Difference:
    """A function or data that is not the same in both object files, whether it can be patched or not."""

    change: str  # changed, new, removed
    kind: str  # function, data
    name: str
    reason: str


@dataclass(frozen=True)
class Original:
    """A `struct kpatch_original`; each pair in `masked` is offset and length."""

    checksum: int
    size: int
    masked: tuple[tuple[int, int], ...]


@dataclass
class ObjectDiff:
    """What differs between the two object files of one source file."""

    context: ObjectContext
    differences: list[Difference] = field(default_factory=list)
    notes: list[Added] = field(default_factory=list)  # what an author has to know: tracepoints that are off
    left: list[Added] = field(default_factory=list)  # changed code that has run and stays as it is
    changed: list[ChangedFunction] = field(default_factory=list)
    hooks: list[Hook] = field(default_factory=list)
    originals: dict[str, Original] = field(default_factory=dict)  # what the changed ones look like, by name
    added_functions: list[Added] = field(default_factory=list)
    added_data: list[Added] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    gone: list[Gone] = field(default_factory=list)  # those of them that others may call
    lost_callbacks: list[str] = field(default_factory=list)  # static ones of them that others may call by address
    lost_variables: list[str] = field(default_factory=list)  # that only the original file has
    new_variables: list[str] = field(default_factory=list)  # that only the patched file has
    types: list[str] = field(default_factory=list)  # those that the patch defines anew: "struct foo"
    refusals: list[Refusal] = field(default_factory=list)
    cramped: bool = False  # whether a static branch wants more room; see static_branch.py
    plan: Plan | None = None  # what emit() needs; None if there are refusals


def refused_as_left(diffs: Iterable[ObjectDiff]) -> list[Refusal]:
    """A refusal for each thing that stays as it is, if nothing else is there to patch."""
    diffs = list(diffs)
    if any(diff.changed or diff.hooks for diff in diffs):
        return []
    return [
        Refusal(diff.context.source, left.name, f"{left.reason}, and nothing else is there to patch")
        for diff in diffs
        for left in diff.left
    ]


@dataclass(frozen=True)
class EmittedFunction:
    """A `struct kpatch_func`: `.new_func = <alias>`, declared as `extern char <alias>[];`."""

    object: str
    name: str
    sympos: int
    alias: str
    reason: str
    forced: bool = False
    exit: bool = False


@dataclass(frozen=True)
class EmittedHook:
    """One member of a `struct kpatch_hooks` or `struct klp_callbacks`, which calls the function *alias*."""

    object: str
    kind: str
    name: str
    alias: str


@dataclass(frozen=True)
class EmittedReloc:
    """A `struct kpatch_reloc` of `object`: `.dest = <place>`, declared as `extern char <place>[];`.

    `object` may be a module that has no functions in the patch: one that exports what a patched module uses.
    """

    object: str
    place: str
    type: int
    symbol: str
    sympos: int
    addend: int


@dataclass
class EmittedObject:
    """What emit() wrote, for the glue. Aliases vanish in finish()."""

    functions: list[EmittedFunction] = field(default_factory=list)
    hooks: list[EmittedHook] = field(default_factory=list)
    relocs: list[EmittedReloc] = field(default_factory=list)
    added: list[Added] = field(default_factory=list)
    exports: list[str] = field(default_factory=list)  # exported symbols that it uses: ____versions wants them
    referenced: set[str] = field(default_factory=set)  # objects that .klp.rela sections refer to
