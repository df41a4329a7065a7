# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The last pass over a linked patch module: what only livepatch's loader understands.

Relocations against `.klp.sym.<object>.*` move to `.klp.rela.<object>.<section>`, and these symbols to the section
index that the module loader leaves alone (Documentation/livepatch/module-elf-format.rst). It can't be done
before linking, because ld drops both. The names that only the glue needed vanish, and those of the files.
"""

from __future__ import annotations

from pathlib import Path

from ansible_collections.kpatch.fleet.plugins.module_utils.build import elf as e
from ansible_collections.kpatch.fleet.plugins.module_utils.build.elfwrite import write
from ansible_collections.kpatch.fleet.plugins.module_utils.build.emit import ALIAS, HOOK, KLP_SYMBOL, PLACE
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import VMLINUX, ElfError

KLP_RELA = ".klp.rela."


def finish(linked: Path, out: Path) -> None:
    """Read the output of `ld -r` at *linked*, write the patch module to *out*; they may be the same."""
    elf = e.read(linked)
    for section in elf.sections:
        _separate(linked, section)
    _forget(elf)
    for symbol in elf.symbols:
        if symbol.name.startswith(KLP_SYMBOL):
            symbol.special = e.SHN_LIVEPATCH
            symbol.bind, symbol.type = e.STB_GLOBAL, e.STT_NOTYPE
    write(elf, out)


def rela_name(section: str, patched: str = VMLINUX) -> str:
    """.text → .klp.rela.vmlinux.text, __jump_table → .klp.rela.vmlinux.__jump_table."""
    return KLP_RELA + patched + (section if section.startswith(".") else "." + section)


def _object(symbol: e.Symbol) -> str:
    """.klp.sym.8021q.vlan_group_get_device,0 → 8021q."""
    return symbol.name[len(KLP_SYMBOL) :].split(".", 1)[0]


def _separate(path: Path, section: e.Section) -> None:
    moved = [reloc for reloc in section.relocs if reloc.symbol.name.startswith(KLP_SYMBOL)]
    if not moved:
        return
    if any(not reloc.symbol.undefined for reloc in moved):
        raise ElfError(f"{path}: {section.name}: a livepatch symbol is defined; was it finished before?")
    section.relocs = [reloc for reloc in section.relocs if not reloc.symbol.name.startswith(KLP_SYMBOL)]
    for name in sorted({_object(reloc.symbol) for reloc in moved}):
        section.livepatch[rela_name(section.name, name)] = [each for each in moved if _object(each.symbol) == name]


def _forget(elf: e.Elf) -> None:
    """Let the glue's tables refer to sections instead of the names that emit() lent them."""
    anchors: dict[int, e.Symbol] = {
        id(symbol.section): symbol
        for symbol in elf.symbols
        if symbol.type == e.STT_SECTION and symbol.section is not None
    }
    for section in elf.sections:
        for reloc in section.relocs:
            symbol = reloc.symbol
            if not _lent(symbol) or symbol.section is None:
                continue
            if id(symbol.section) not in anchors:
                anchors[id(symbol.section)] = e.Symbol("", type=e.STT_SECTION, section=symbol.section)
                elf.symbols.append(anchors[id(symbol.section)])
            reloc.symbol, reloc.addend = anchors[id(symbol.section)], reloc.addend + symbol.value
    elf.symbols = [symbol for symbol in elf.symbols if not _tells_file(symbol)]
    elf.symbols = [symbol for symbol in elf.symbols if not _lent(symbol) or symbol.undefined]


def _tells_file(symbol: e.Symbol) -> bool:
    """The ld of 5.10 (2.35) names diff.o by its path: /tmp/kpatch-build-ag5fkxuq/module/diff.o."""
    return symbol.type == e.STT_FILE


def _lent(symbol: e.Symbol) -> bool:
    return symbol.name.startswith((ALIAS, HOOK, PLACE))
