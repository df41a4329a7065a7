# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module.symvers: what the kernel and the core module export, with the version of each symbol."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import BuildError, Export


def read_symvers(path: Path) -> dict[str, Export]:
    """The exports that the Module.symvers at *path* lists, by symbol."""
    try:
        return parse_symvers(path.read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        raise BuildError(f"{path}: not a Module.symvers: {error}; prepare the kernel again") from error


def parse_symvers(text: str) -> dict[str, Export]:
    """Lines of CRC, symbol, module, kind, namespace, separated by tabs (scripts/mod/modpost.c, write_dump)."""
    exports: dict[str, Export] = {}
    for line in text.splitlines():
        fields = line.split("\t")
        if len(fields) < 4:
            raise ValueError(f"the line {line!r} has fewer than 4 fields")
        crc, symbol, module, kind = fields[:4]
        exports[symbol] = Export(int(crc, 16), module_of(module), kind, fields[4] if len(fields) > 4 else "")
    return exports


def module_of(path: str) -> str:
    """net/8021q/8021q → 8021q; a module's name in the kernel has underscores."""
    return path.rsplit("/", 1)[-1].replace("-", "_")
