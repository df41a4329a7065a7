# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a change of preprocessed C is in declarations that the file makes no use of.

A header's change reaches the texts of all that include it, and the code of few. Of a static inline function that nobody
calls, of a prototype or a struct alone, nothing is in an object file: it need not be compiled to know that it is the
same. What is not known here for sure counts as used.

Relied on is what every kernel's C is like: it compiles without the warning that a struct is declared in a parameter
list, and has no digraphs and no names in other alphabets.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import takewhile
from typing import NamedTuple

_STRING = r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'"""
# Braces and semicolons in strings and character constants are none.
_TOKEN = re.compile(rf"{_STRING}|[{{}};]", re.DOTALL)
_STRINGS = re.compile(_STRING, re.DOTALL)


def _group(levels: int) -> str:
    """What is in parentheses, of which so many *levels* are in one another."""
    inside = r"[^(){};=]*"
    for _level in range(levels):
        inside = rf"(?:[^(){{}};=]|\({inside}\))*"
    return rf"\({inside}\)"


# ____cacheline_aligned: __attribute__((__aligned__((1 << (6))))).
_GROUP = _group(5)
_ATTRIBUTE = rf"\b__attribute(?:__)?\s*{_GROUP}"
_ATTRIBUTES = re.compile(_ATTRIBUTE)
# What is in the object file whether somebody refers to it or not, a function's own static variables among it.
_KEPT = re.compile(r"\b_*(?:used|retain|alias|ifunc|constructor|destructor|copy)_*\b")
# What is not read here: a pragma, attributes in brackets.
_UNREAD = re.compile(r"^\s*#|\[\[", re.MULTILINE)
_FUNCTION = re.compile(rf"([\w\s*]+?)\b(\w+)\s*{_GROUP}\s*")
_PLAIN = re.compile(r"((?:extern|typedef)\s+[\w\s*]+?)\b(\w+)\s*(?:\[[^][=;{}]*\]\s*)*;")
_FORWARD = re.compile(r"(?:struct|union)\s+\w+\s*;")
_TYPE = re.compile(r"(?:struct|union)\s+\w+\s*\{[^=]*\}\s*;")
_NO_TYPE = re.compile(r"\benum\b|[)\]]\s*\{")  # constants have names, too; a function may return a struct
_TAG = re.compile(r"\b(?:struct|union)\s+(\w+)\s*\{")
# A number of __COUNTER__'s is in these: one use of it more in a header, and all that come later are others. In
# __initcall__kmod_ipv6__563_1299_inet6_init6 the line follows.
_COUNTED = re.compile(r"(__(?:UNIQUE_ID_|compiletime_assert_|BTF_ID__|initcall__kmod_)\w*?)[0-9]+(?=\b|_[0-9]+_)")
_INLINE = (re.compile(r"\bstatic\b"), re.compile(r"\b_*inline_*\b"))
# Words before a declared name that give it no type: in `typedef number (other);` number is none.
_STORAGE = {"static", "extern", "typedef", "register", "inline", "__inline", "__inline__", "_Noreturn"}
_QUALIFIERS = _STORAGE | {"const", "volatile", "restrict", "struct", "union", "enum"}
# register unsigned long current_stack_pointer asm("rsp"); unsigned long (variable);
_TYPES = {"void", "char", "short", "int", "long", "float", "double", "signed", "unsigned", "_Bool"}
_NO_NAMES = _QUALIFIERS | _TYPES | {"asm", "__asm", "__asm__", "typeof", "__typeof", "__typeof__", "_Alignas"}
_INSIDE = "unused|aligned|packed|may_alias|cleanup|fallthrough"
# In a body: its own static variables, whatever they have, compiletime_assert(), attributes of what is inside.
_OWN = re.compile(
    rf"\bstatic\b(?:{_ATTRIBUTE}|[\w\s*])*"
    rf"|(?:{_ATTRIBUTE}\s*)?\bextern void __compiletime_assert_\d+\(void\)\s*(?:{_ATTRIBUTE})?"
    rf"|\b__attribute(?:__)?\s*\(\(\s*_*(?:{_INSIDE})_*\s*(?:{_GROUP})?\s*\)\)"
)
# What a body can say of a function or variable at file scope: that it is weak, does not return, has another name.
_REACHES_OUT = re.compile(r"\bextern\b|\b_Noreturn\b|\)\s*_*asm_*\s*\(|\b__attribute")


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
    return None if depth else [Declaration(each, _COUNTED.sub(r"\1#", each)) for each in found]


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
    plain = _STRINGS.sub('""', declaration)
    if _KEPT.search(plain) or _UNREAD.search(plain):
        return None
    head, brace, body = plain.partition("{")
    declared = _ATTRIBUTES.sub("", head if _INLINE[0].search(head) else plain).strip()
    if "__attribute" in declared:
        return None
    if _FORWARD.fullmatch(declared):
        return set()
    if _TYPE.fullmatch(declared):
        return None if _NO_TYPE.search(declared) else set(_TAG.findall(declared))
    found = _FUNCTION.fullmatch(declared.removesuffix(";")) or _PLAIN.fullmatch(declared)
    if found is None or found[2] in _NO_NAMES or _COUNTED.search(found[2]):
        return None
    if not set(re.findall(r"\w+", found[1])) - _QUALIFIERS:
        return None
    if brace and not (all(word.search(found[1]) for word in _INLINE) and _stays_within(body)):
        return None
    return {found[2]}


def _stays_within(body: str) -> bool:
    """Whether a body that nobody calls says nothing of what is outside of it: its declarations count all the same."""
    return not _REACHES_OUT.search(_OWN.sub("", body))
