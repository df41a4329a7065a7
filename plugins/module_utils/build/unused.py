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

from ansible_collections.kpatch.fleet.plugins.module_utils.build.declaration import COUNTED, STRING, names

# Braces and semicolons in strings and character constants are none.
_TOKEN = re.compile(rf"{STRING}|[{{}};]", re.DOTALL)


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
    return None if depth else [Declaration(each, COUNTED.sub(r"\1#", each)) for each in found]


def _alike(one: Iterable[Declaration], other: Iterable[Declaration]) -> int:
    """How many are the same at the beginning."""
    return sum(1 for _pair in takewhile(lambda pair: pair[0].plain == pair[1].plain, zip(one, other)))


def _same(one: list[Declaration], other: list[Declaration]) -> bool:
    """Whether they differ in counted names at most, and each name is always another one's."""
    if [each.plain for each in one] != [each.plain for each in other]:
        return False
    names = [[name[0] for each in side for name in COUNTED.finditer(each.text)] for side in (one, other)]
    pairs = set(zip(*names))
    return all(len(set(each)) == len(pairs) for each in zip(*pairs))


def _used(changed: Iterable[str], others: list[str]) -> bool:
    """Whether *others* come to use one of the declarations *changed*, by way of others or not."""
    users = list(changed)
    while users:
        used_by: set[str] = set()
        for user in users:
            given = names(user)
            if given is None:
                return True
            used_by |= given
        word = re.compile(rf"\b(?:{'|'.join(sorted(used_by))})\b")
        # To look for a plain text first is several times faster.
        users = [each for each in others if any(name in each for name in used_by) and word.search(each)]
        left = set(users)
        others = [each for each in others if each not in left]
    return False
