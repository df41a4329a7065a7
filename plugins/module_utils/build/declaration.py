# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""By which names a declaration at file scope is used, if it is nothing in an object file for those who don't.

Such are static inline functions, prototypes, extern variables, the names of types, structs and constants. What is not
known here for sure has no names.
"""

from __future__ import annotations

import re

STRING = r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'"""
_STRINGS = re.compile(STRING, re.DOTALL)


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
_ENUM = re.compile(r"enum\b(\s*\w*\s*\{[^{}]*)\}\s*;")
_VALUE = re.compile(r"=[^,]*")
_WORD = re.compile(r"\b[A-Za-z_]\w*")
_NO_TYPE = re.compile(r"\benum\b[\w\s]*\{|[)\]]\s*\{")  # constants have names, too; a function may return a struct
_TAG = re.compile(r"\b(?:struct|union)\s+(\w+)\s*\{")
# A number of __COUNTER__'s is in these: one use of it more in a header, and all that come later are others. In
# __initcall__kmod_ipv6__563_1299_inet6_init6 the line follows.
COUNTED = re.compile(r"(__(?:UNIQUE_ID_|compiletime_assert_|BTF_ID__|initcall__kmod_)\w*?)[0-9]+(?=\b|_[0-9]+_)")
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


def names(declaration: str) -> set[str] | None:
    """The names by which a declaration is used; None if it can be in an object file without being used."""
    plain = _STRINGS.sub('""', declaration).strip()
    if _KEPT.search(plain) or _UNREAD.search(plain):
        return None
    head, brace, body = plain.partition("{")
    declared = _ATTRIBUTES.sub("", head if _INLINE[0].search(head) else plain).strip()
    if "__attribute" in declared:
        return None
    if _FORWARD.fullmatch(declared):
        return set()
    enum = _ENUM.fullmatch(declared)
    if enum is not None:
        return set(_WORD.findall(_VALUE.sub("", enum[1])))
    if _TYPE.fullmatch(declared):
        return None if _NO_TYPE.search(declared) else set(_TAG.findall(declared))
    found = _FUNCTION.fullmatch(declared.removesuffix(";")) or _PLAIN.fullmatch(declared)
    if found is None or found[2] in _NO_NAMES or COUNTED.search(found[2]):
        return None
    if not set(re.findall(r"\w+", found[1])) - _QUALIFIERS:
        return None
    if brace and not (all(word.search(found[1]) for word in _INLINE) and body.endswith("}") and _stays_within(body)):
        return None
    return {found[2]}


def _stays_within(body: str) -> bool:
    """Whether a body that nobody calls says nothing of what is outside of it: its declarations count all the same."""
    return not _REACHES_OUT.search(_OWN.sub("", body))
