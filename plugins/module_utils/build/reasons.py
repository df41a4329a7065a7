# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a function is in a patch module, in words of the source: the patch edits it, or what it inlines or uses.

The object file tells that a function's code changed. Its author wants to know why, where the diff does not show it:
a static inline in the same file or a header, a macro, a struct.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Callable

from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import ChangedFunction, ObjectDiff
from ansible_collections.kpatch.fleet.plugins.module_utils.build.run import run

_BODY = re.compile(r"^\{\n.*?^\}", re.MULTILINE | re.DOTALL)
_WORD = re.compile(r"\b[A-Za-z_]\w*")
_CALLED = re.compile(r"(\w+)\s*\(")
_SYSCALL = re.compile(r"SYSCALL_DEFINE\d\s*\(\s*(\w+)")
_MACRO = re.compile(r"^[ \t]*#[ \t]*define[ \t]+(\w+)((?:.*\\\n)*.*)", re.MULTILINE)
_TYPE = re.compile(r"^(?:typedef\s+)?((?:struct|union|enum)\s+\w+)\s*\{\n.*?^\}", re.MULTILINE | re.DOTALL)
_LINE = re.compile(r"^#line .*\n", re.MULTILINE)
_CLONE = re.compile(r"\.(?:isra|constprop|part|cold|llvm)\b.*")
_ATTRIBUTES = {"__attribute__", "__printf", "__acquires", "__releases", "__must_hold", "__section", "__aligned"}

_ENTRY = re.compile(r" <(\d+)><([0-9a-f]+)>: Abbrev Number: \d+ \((DW_TAG_\w+)\)")
_ATTRIBUTE = re.compile(r"    <[0-9a-f]+>\s+(DW_AT_\w+)\s*: (.*)")
_FORM = re.compile(r"^(?:\([^)]*\):? )+")  # "(strp) (offset: 0xd): between", "(indirect string, offset: 0xd): between"
_REFERENCE = re.compile(r"<0x([0-9a-f]+)>")


@dataclass(frozen=True)
class Edits:
    """What a source patch edits, by name."""

    functions: frozenset[str] = frozenset()
    macros: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()

    def __or__(self, other: Edits) -> Edits:
        return Edits(self.functions | other.functions, self.macros | other.macros, self.types | other.types)


@dataclass
class _Entry:
    """A debugging entry, as far as it is wanted."""

    tag: str
    depth: int
    attributes: dict[str, str] = field(default_factory=dict)


def edits(before: str, after: str) -> Edits:
    """What differs between two texts of a source file."""
    before, after = _LINE.sub("", before), _LINE.sub("", after)
    return Edits(*(_differing(named(before), named(after)) for named in (functions, _macros, _types)))


def functions(text: str) -> dict[str, str]:
    """The functions that a source file defines in the kernel's style: the texts by name."""
    found: dict[str, str] = {}
    for body in _BODY.finditer(text):
        head = text[: body.start()].rpartition("\n\n")[2]
        name = _function_name(head)
        if name is not None:
            found[name] = found.get(name, "") + head + body[0]
    return found


def why(name: str, edited: Edits, inlines: Iterable[str], text: str = "") -> str | None:
    """Why the function *name* changed, which inlines the functions *inlines*; None if the source does not tell.

    *text* is its own source, if that is at hand.
    """
    own = _CLONE.sub("", name)
    if own in edited.functions:
        return "the patch edits it"
    inlined = sorted(edited.functions & set(inlines))
    if inlined:
        return f"it inlines {', '.join(inlined)}, which the patch edits"
    used = [macro for macro in sorted(edited.macros) if re.search(rf"\b{macro}\b", text)]
    if used:
        return f"it uses the macro {', '.join(used)}, which the patch edits"
    if edited.types and not edited.functions:
        return f"the patch edits {', '.join(sorted(edited.types))}"
    return None


def explain(
    diff: ObjectDiff, edited: Edits, texts: Mapping[str, str], inlines: Callable[[], Mapping[str, set[str]]]
) -> None:
    """Add to the reasons of *diff*, one unit's, what the source tells; *texts* are those of the unit's own functions.

    *inlines* is what inlined() says of the unit. It costs a compilation, and is asked only where the texts do not tell.
    """
    known: Mapping[str, set[str]] | None = None
    better: dict[ChangedFunction, ChangedFunction] = {}
    for function in diff.changed:
        text = texts.get(_CLONE.sub("", function.name), "")
        told = why(function.name, edited, set(_WORD.findall(text)), text)
        if told is None and edited.functions:
            known = inlines() if known is None else known
            told = why(function.name, edited, inlines_of(function.name, known), text)
        if told is not None:
            better[function] = replace(function, reason=f"{function.reason}: {told}")
    diff.changed = [better.get(function, function) for function in diff.changed]
    if diff.plan is not None:
        diff.plan.functions = [(better.get(function, function), symbol) for function, symbol in diff.plan.functions]


def inlined(path: Path) -> dict[str, set[str]]:
    """Which functions were inlined into each function of an object file compiled with -g1, or with more."""
    said = run(["readelf", "--debug-dump=info", "--wide", path])
    entries = _debugging_entries(said)
    into: dict[str, set[str]] = defaultdict(set)
    outer = ""
    for entry in entries.values():
        if entry.depth == 1:
            outer = _name(entries, entry) if entry.tag == "DW_TAG_subprogram" else ""
        elif outer and entry.tag == "DW_TAG_inlined_subroutine":
            into[outer].add(_name(entries, entry))
    return dict(into)


def inlines_of(name: str, into: Mapping[str, set[str]]) -> set[str]:
    """What inlined() says of a function, which may be a clone."""
    return into.get(_CLONE.sub("", name), set())


def _function_name(head: str) -> str | None:
    """SYSCALL_DEFINE3(read, …) defines __do_sys_read; static __init int foo(…) foo."""
    head = re.sub(r"/\*.*?\*/", "", head, flags=re.DOTALL)
    syscall = _SYSCALL.search(head)
    if syscall:
        return f"__do_sys_{syscall[1]}"
    names = [name for name in _CALLED.findall(head) if name not in _ATTRIBUTES]
    return names[0] if names and head.rstrip().endswith((")", "))")) else None


def _macros(text: str) -> dict[str, str]:
    return {match[1]: match[2] for match in _MACRO.finditer(text)}


def _types(text: str) -> dict[str, str]:
    return {" ".join(match[1].split()): match[0] for match in _TYPE.finditer(text)}


def _differing(before: dict[str, str], after: dict[str, str]) -> frozenset[str]:
    return frozenset(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def _debugging_entries(said: str) -> dict[str, _Entry]:
    entries: dict[str, _Entry] = {}
    current: _Entry | None = None
    for line in said.splitlines():
        attribute = _ATTRIBUTE.match(line) if current is not None else None
        if attribute is not None and current is not None:
            if attribute[1] in ("DW_AT_name", "DW_AT_abstract_origin"):
                current.attributes[attribute[1]] = attribute[2]
            continue
        entry = _ENTRY.match(line)
        if entry is not None:
            current = entries[entry[2]] = _Entry(entry[3], int(entry[1]))
    return entries


def _name(entries: dict[str, _Entry], entry: _Entry) -> str:
    """Its name, or that of the entry that it is an instance of."""
    for _step in range(4):
        if "DW_AT_name" in entry.attributes:
            return _FORM.sub("", entry.attributes["DW_AT_name"]).strip()
        origin = _REFERENCE.search(entry.attributes.get("DW_AT_abstract_origin", ""))
        if origin is None or origin[1] not in entries:
            return ""
        entry = entries[origin[1]]
    return ""
