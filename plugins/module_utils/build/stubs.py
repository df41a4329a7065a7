# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One relocation per function that is not exported, however often the patch calls it.

Kernels before 6.2 look through all of kallsyms for each livepatch relocation: 46 of them took up to 4 s under
emulation. Calls and jumps to the same function go through one jump of our own, which leaves no frame behind. An
ORC entry says so: it is that of a function's first instruction, where the stack is the same.
"""

from __future__ import annotations

from collections import defaultdict

from ansible_collections.kpatch.fleet.plugins.module_utils.build import elf as e
from ansible_collections.kpatch.fleet.plugins.module_utils.build.instruction import is_branch
from ansible_collections.kpatch.fleet.plugins.module_utils.build.special import ORC, ORC_IP

STUB = "kpatch_call."
_JUMP = b"\xe9\x00\x00\x00\x00"
_ALIGN = 16
_BREAKPOINT = b"\xcc"


def share_calls(elf: e.Elf, prefix: str) -> None:
    """Let repeated calls of each undefined symbol that begins with *prefix* share one jump in .text."""
    sections = {section.name: section for section in elf.sections}
    text = sections.get(".text")
    # Call depth tracking (6.2 and newer) counts calls by their targets' padding, and looks symbols up by name.
    if text is None or ".call_sites" in sections:
        return
    groups = [(symbol, relocs) for symbol, relocs in _calls(elf, prefix) if len(relocs) > 1]
    entry = _orc_of_entry(elf, sections)
    for number, (symbol, relocs) in enumerate(groups):
        stub = _append(elf, text, symbol, prefix)
        for reloc in relocs:
            reloc.symbol = stub
        if entry is not None and not number:
            _describe(sections[ORC_IP], sections[ORC], stub, entry)


def _calls(elf: e.Elf, prefix: str) -> list[tuple[e.Symbol, list[e.Reloc]]]:
    found: dict[int, list[e.Reloc]] = defaultdict(list)
    symbols: dict[int, e.Symbol] = {}
    for section in elf.sections:
        if section.name not in (".text", ".text.unlikely"):
            continue
        for reloc in section.relocs:
            plain = reloc.type in (e.R_PC32, e.R_PLT32) and reloc.addend == -4
            if plain and reloc.symbol.name.startswith(prefix) and is_branch(section.data, reloc.offset):
                symbols[id(reloc.symbol)] = reloc.symbol
                found[id(reloc.symbol)].append(reloc)
    return [(symbols[key], relocs) for key, relocs in found.items()]


def _append(elf: e.Elf, text: e.Section, symbol: e.Symbol, prefix: str) -> e.Symbol:
    text.data += _BREAKPOINT * (-len(text.data) % _ALIGN)
    at = len(text.data)
    text.data += _JUMP
    text.size, text.align = len(text.data), max(text.align, _ALIGN)
    text.relocs.append(e.Reloc(at + 1, e.R_PLT32, symbol, -4))
    stub = e.Symbol(STUB + symbol.name[len(prefix) :].split(",")[0], at, len(_JUMP), section=text)
    stub.type = e.STT_FUNC
    elf.symbols.append(stub)
    return stub


def _orc_of_entry(elf: e.Elf, sections: dict[str, e.Section]) -> bytes | None:
    """The ORC entry of the first instruction of some function; None if there are none."""
    if ORC_IP not in sections or ORC not in sections:
        return None
    ips, orc = sections[ORC_IP], sections[ORC]
    starts = {(id(symbol.section), symbol.value) for symbol in elf.symbols if symbol.type == e.STT_FUNC and symbol.size}
    width = orc.size * 4 // ips.size
    for reloc in ips.relocs:
        if (id(reloc.symbol.section), reloc.symbol.value + reloc.addend) in starts:
            number = reloc.offset // 4
            return orc.data[number * width : (number + 1) * width]
    return None


def _describe(ips: e.Section, orc: e.Section, stub: e.Symbol, entry: bytes) -> None:
    ips.relocs.append(e.Reloc(len(ips.data), e.R_PC32, stub, 0))
    ips.data += bytes(4)
    orc.data += entry
    ips.size, orc.size = len(ips.data), len(orc.data)
