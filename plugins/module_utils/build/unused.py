# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a change of preprocessed C is in declarations that the file makes no use of.

A header's change reaches the texts of all that include it, and the code of few. Of a static inline function that nobody
calls, of a prototype or a struct alone, nothing is in an object file: it need not be compiled to know that it is the
same. What is not known here for sure counts as used.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import takewhile
from typing import NamedTuple

# Braces and semicolons in strings and character constants are none.
_TOKEN = re.compile(r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[{};]""", re.DOTALL)
# In parentheses, of which three levels are in one another: __attribute__((__aligned__(sizeof(long)))).
_GROUP = r"\((?:[^(){};=]|\((?:[^(){};=]|\((?:[^(){};=]|\([^(){};=]*\))*\))*\))*\)"
_ATTRIBUTE = re.compile(rf"\b__attribute__\s*{_GROUP}")
# What is in the object file whether somebody refers to it or not, a function's own static variables among it.
_KEPT = re.compile(r"\b_*(?:used|retain|alias|ifunc|constructor|destructor)_*\b")
_FUNCTION = re.compile(rf"[\w\s*]+?\b(\w+)\s*{_GROUP}\s*")
# A number of __COUNTER__'s is in these: one use of it more in a header, and all that come later are others. In
# __initcall__kmod_ipv6__563_1299_inet6_init6 the line follows.
_COUNTED = re.compile(r"(__(?:UNIQUE_ID_|compiletime_assert_|BTF_ID__|initcall__kmod_)\w*?)[0-9]+(?=\b|_[0-9]+_)")
_INLINE = (re.compile(r"\bstatic\b"), re.compile(r"\b_*inline_*\b"))
_PLAIN = re.compile(r"(?:extern|typedef)\s+[\w\s*]+?\b(\w+)\s*(?:\[[^=;{}]*\]\s*)*;")
_FORWARD = re.compile(r"(?:struct|union)\s+\w+\s*;")
_TYPE = re.compile(r"(?:struct|union)\s+\w+\s*\{[^=]*\}\s*;")
_TAG = re.compile(r"\b(?:struct|union)\s+(\w+)\s*\{")
# register unsigned long current_stack_pointer asm("rsp");
_NO_NAMES = {"asm", "__asm", "__asm__", "__attribute__"}


class Declaration(NamedTuple):
    """One at file scope."""

    text: str
    plain: str  # the same without the numbers in counted names


def differ_in_unused(before: str, after: str) -> bool:
    """Whether two preprocessed files make one object file by all that can be said without compiling them."""
    old, new = declarations(before), declarations(after)
    if old is None or new is None:
        return False
    ahead = _alike(old, new)
    behind = _alike(reversed(old[ahead:]), reversed(new[ahead:]))
    middles = old[ahead : len(old) - behind], new[ahead : len(new) - behind]
    in_both = {each.plain for each in middles[0]} & {each.plain for each in middles[1]}
    changed = [each.text for middle in middles for each in middle if each.plain not in in_both]
    others = [
        [*side[:ahead], *(each for each in middle if each.plain in in_both), *side[len(side) - behind :]]
        for side, middle in zip((old, new), middles)
    ]
    return _same(*others) and not _used(changed, [each.text for each in others[0]])


def declarations(text: str) -> list[Declaration] | None:
    """What preprocessed C declares at file scope, one after the other; None if its braces don't match."""
    found: list[str] = []
    start = depth = 0
    is_function = False
    for token in _TOKEN.finditer(text):
        ends = False
        if token[0] == "{":
            if not depth and not is_function:
                is_function = text[start : token.start()].rstrip().endswith(")")
            depth += 1
        elif token[0] == "}":
            depth -= 1
            ends = is_function
        elif token[0] == ";":
            ends = True
        if ends and not depth:
            found.append(text[start : token.end()].strip())
            start, is_function = token.end(), False
    found.append(text[start:].strip())
    return None if depth else [Declaration(each, _COUNTED.sub(r"\1", each)) for each in found]


def _alike(one: Iterable[Declaration], other: Iterable[Declaration]) -> int:
    """How many are the same at the beginning."""
    return sum(1 for _pair in takewhile(lambda pair: pair[0].plain == pair[1].plain, zip(one, other)))


def _same(one: list[Declaration], other: list[Declaration]) -> bool:
    """Whether they differ in counted names at most, and each name is always another one's."""
    if [each.plain for each in one] != [each.plain for each in other]:
        return False
    names = [[name[0] for each in side for name in _COUNTED.finditer(each.text)] for side in (one, other)]
    pairs = set(zip(*names))
    return all(len(set(each)) == len(pairs) for each in zip(*pairs))


def _used(changed: Iterable[str], others: list[str]) -> bool:
    """Whether *others* come to use one of the declarations *changed*, by way of others or not."""
    users = list(changed)
    while users:
        names: set[str] = set()
        for user in users:
            given = _names(user)
            if given is None:
                return True
            names |= given
        word = re.compile(rf"\b(?:{'|'.join(sorted(names))})\b")
        # To look for a plain text first is several times faster.
        users = [each for each in others if any(name in each for name in names) and word.search(each)]
        left = set(users)
        others = [each for each in others if each not in left]
    return False


def _names(declaration: str) -> set[str] | None:
    """The names by which a declaration is used; None if it can be in an object file without being used."""
    if _KEPT.search(declaration):
        return None
    plain = _ATTRIBUTE.sub("", declaration).strip()
    head, brace, _rest = plain.partition("{")
    if not brace and _FORWARD.fullmatch(plain):
        return set()
    if brace and _TYPE.fullmatch(plain) and "enum" not in plain:
        return set(_TAG.findall(plain))
    found = _FUNCTION.fullmatch(head if brace else head.removesuffix(";")) or _PLAIN.fullmatch(plain)
    if found is None or found[1] in _NO_NAMES or (brace and not all(word.search(head) for word in _INLINE)):
        return None
    return {found[1]}
