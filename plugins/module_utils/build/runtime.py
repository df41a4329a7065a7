# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runtime constants (6.11 and newer): instructions into which the kernel writes the value of a variable at boot.

A patch module comes too late for that. It reads the variable instead: access_ok() compares with USER_PTR_MAX so, in
every function that it is inlined into.
"""

from __future__ import annotations

from ansible_collections.kpatch.fleet.plugins.module_utils.build import elf as e
from ansible_collections.kpatch.fleet.plugins.module_utils.build.instruction import LOAD_FIELD, load_instead
from ansible_collections.kpatch.fleet.plugins.module_utils.build.pieces import Parts
from ansible_collections.kpatch.fleet.plugins.module_utils.build.special import RUNTIME, Entry

_POINTER = RUNTIME + "ptr_"


class UnknownConstantError(Exception):
    """A constant that can't be read from its variable where it is used."""


def is_runtime(entry: Entry) -> bool:
    """Whether the entry tells of a runtime constant."""
    return entry.section.name.startswith(RUNTIME)


def variable(entry: Entry) -> str:
    """The name of the variable whose value the code has."""
    return entry.section.name[len(RUNTIME) :].split("_", 1)[1]


def read_instead(parts: Parts, entry: Entry, section: e.Section, start: int) -> int:
    """Rewrite the code in *section*, a copy of the owner that begins at *start*; where the relocation has to go."""
    target = parts.target(entry.section, entry.relocs[0])
    field = target.offset + (target.piece.start if target.piece else 0) - start
    code = load_instead(section.data, field) if entry.section.name.startswith(_POINTER) else None
    if code is None:
        raise UnknownConstantError(
            f"it has the value of {variable(entry)} in its code, written there at boot, and no room to read the "
            "variable instead; patch the functions that call it"
        )
    at = field - 2
    section.data = section.data[:at] + code + section.data[at + len(code) :]
    return at + LOAD_FIELD


def definition(parts: Parts, entry: Entry) -> e.Symbol:
    """The symbol of the variable."""
    name = variable(entry)
    found = next((symbol for symbol in parts.elf.symbols if symbol.name == name), None)
    return found or e.Symbol(name, bind=e.STB_GLOBAL)
