# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which types a patch changes: struct, union and enum definitions, compared as the compiler gets to see them."""

from __future__ import annotations

import re

_DEFINED = re.compile(r"\b(struct|union|enum)\s+([A-Za-z_]\w*)\s*\{")
_BRACES = re.compile(r"[{}]")


def definitions(text: str) -> dict[str, str]:
    """The named types that preprocessed C defines, each with its members; white space is all one."""
    found: dict[str, str] = {}
    for match in _DEFINED.finditer(text):
        end = _closing(text, match.end())
        found.setdefault(f"{match[1]} {match[2]}", " ".join(text[match.end() : end].split()))
    return found


def changed(before: str, after: str) -> list[str]:
    """The types that both texts define, and not alike."""
    old, new = definitions(before), definitions(after)
    return sorted(name for name in old.keys() & new.keys() if old[name] != new[name])


def _closing(text: str, start: int) -> int:
    """Where the brace is closed that was opened before *start*; the end if it never is."""
    depth = 1
    for brace in _BRACES.finditer(text, start):
        depth += 1 if brace[0] == "{" else -1
        if not depth:
            return brace.start()
    return len(text)
