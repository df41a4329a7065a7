# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A source file as it is written, before any preprocessor: its directives and declarations, and by what name each is
used.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import SequenceMatcher
from typing import NamedTuple

from ansible_collections.kpatch.fleet.plugins.module_utils.build import declaration

# Of one line: in `#error don't` no character constant begins.
_STRING = r""""(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'"""
_COMMENT = re.compile(rf"/\*.*?\*/|//[^\n]*|({_STRING})", re.DOTALL)
_TOKEN = re.compile(rf"{_STRING}|[{{}};]")
# The builder's own, which keep the lines' numbers.
_LINE = re.compile(r"#\s*line\b")
_CONDITION = re.compile(r"^#\s*(if|ifdef|ifndef|elif|else|endif)\b.*", re.MULTILINE)
_DEFINE = re.compile(r"#\s*define\s+(\w+)")
# A macro that has others in it than its own name.
_DECLARES = re.compile(r"\b(?:struct|union|enum)\b\s*\w*\s*\{")

# Macros for attributes that mean nothing to who does not use what has them: of include/linux/compiler_types.h,
# compiler_attributes.h, init.h and cache.h.
_WITH_ARGUMENTS = "aligned|printf|scanf|acquires|releases|must_hold|alloc_size|realloc_size|counted_by|assume_aligned"
_WITHOUT = (
    "must_check|init|exit|net_init|net_exit|cold|pure|attribute_const__|malloc|maybe_unused|user|rcu|iomem|percpu|force"
    "|read_mostly|ro_after_init|packed|sched|noreturn|bitwise|randomize_layout|deprecated|private|kernel"
)
_HARMLESS = re.compile(
    rf"\b__(?:{_WITH_ARGUMENTS})\s*\((?:[^()]|\([^()]*\))*\)|\b__(?:{_WITHOUT})\b|\b____cacheline_\w+\b"
    r"|\b(?:notrace|noinline|asmlinkage|noinline_for_stack|randomized_struct_fields_(?:start|end))\b"
)
_ALWAYS_INLINE = re.compile(r"\b__always_inline\b")
_NUMBER_TYPE = r"(?:[bl]e|[su])(?:8|16|32|64|128)|kernel_\w+_t|wsum|sum16|poll_t|inline(?:__)?"
# What may be any other macro: __be32 and __kernel_size_t are types.
_MACRO = re.compile(rf"\b(?:__(?!(?:{_NUMBER_TYPE})\b)\w+|[A-Z][A-Z0-9_]{{2,}})\b")
_MAKES_A_STRUCT = re.compile(r"\b(?:__struct_group|struct_group_tagged)\b")


class Change(NamedTuple):
    """What differs between two texts of a file, and what does not."""

    differing: list[str]
    same: list[str]


def outline(text: str) -> list[str] | None:
    """The directives and declarations of a source file, one after the other; None if its braces don't match.

    A directive within a declaration is part of it.
    """
    found: list[str] = []
    part: list[str] = []
    depth = 0
    is_function = False
    depths: list[int] = []  # where conditions begin
    for line in _COMMENT.sub(lambda match: match[1] or " ", text.replace("\\\n", " ")).split("\n"):
        line = " ".join(line.split())
        if line.startswith("#"):
            condition = _CONDITION.match(line)
            if condition and condition[1].startswith("if"):
                depths.append(depth)
            elif condition and (not depths or depth != depths[-1]):
                return None  # which braces match depends on it
            elif condition and condition[1] == "endif":
                depths.pop()
            if not _LINE.match(line):
                (part if part else found).append(line)
            continue
        start = 0
        for token in _TOKEN.finditer(line):
            ends = token[0] == ";"
            if token[0] == "{":
                if not depth and not is_function:
                    head = " ".join([*part, line[start : token.start()]])
                    is_function = _HARMLESS.sub("", head).rstrip().endswith(")")
                depth += 1
            elif token[0] == "}":
                depth -= 1
                ends = is_function
            if ends and not depth:
                found.append("\n".join([*part, line[start : token.end()].strip()]))
                part, start, is_function = [], token.end(), False
        if line[start:].strip():
            part.append(line[start:].strip())
    return None if depth else [*found, *(["\n".join(part)] if part else [])]


def differing(before: str, after: str) -> Change | None:
    """How two texts of a file differ; None if one has no outline, or what does not differ is compiled where it was not.

    A condition that is new may be around new declarations alone.
    """
    old, new = outline(before), outline(after)
    if old is None or new is None:
        return None
    change = Change([], [])
    for kind, *places in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        blocks = old[slice(*places[:2])], new[slice(*places[2:])]
        if kind == "equal":
            change.same.extend(blocks[1])
        elif not all(map(_balanced, blocks)):
            return None
        else:
            change.differing.extend(each for block in blocks for each in block if not _CONDITION.match(each))
    return change


def names(piece: str) -> set[str] | None:
    """The names by which a directive or declaration is used; None if that is not known, or it is used in any case."""
    if piece.startswith("#"):
        define = _DEFINE.match(piece)
        return {define[1]} if define and not _DECLARES.search(piece) else None
    plain = _ALWAYS_INLINE.sub("inline", _HARMLESS.sub(" ", _CONDITION.sub("", piece)))
    head = plain.partition("{")[0].partition("(")[0]
    if _MACRO.search(head) or _MAKES_A_STRUCT.search(plain):
        return None
    return declaration.names(plain)


def _balanced(block: Iterable[str]) -> bool:
    """Whether the conditions that begin in a part of an outline end in it, and no other ones do."""
    depth = 0
    for condition in (found for piece in block for found in _CONDITION.finditer(piece)):
        depth += {"endif": -1, "if": 1, "ifdef": 1, "ifndef": 1}.get(condition[1], 0)
        if depth < (0 if condition[1] == "endif" else 1):
            return False
    return not depth
