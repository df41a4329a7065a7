# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The glue C of a patch module, rendered from kmod/patch/: its tables, and what modpost would have written."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

try:
    import jinja2
except ImportError:
    jinja2 = None  # type: ignore[assignment]

from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import (
    VMLINUX,
    BuildError,
    EmittedObject,
    Export,
    Original,
)
from ansible_collections.kpatch.fleet.plugins.module_utils.manifest import STOPPING

Originals = dict[tuple[str, str, int], Original]  # by object, function and sympos

TABLES = "tables.c.j2"
LIVEPATCH = "livepatch.c.j2"
MODULE = "module.c.j2"
HEADER = "kpatch.h"
AUTHOR = "kpatch_author.h"

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ABI = re.compile(r"^#define KPATCH_ABI (?P<abi>[0-9]+)$", re.MULTILINE)
_LAYOUT = "module_layout"  # the loader compares its version first: that of struct module


def abi(header: str) -> int:
    """KPATCH_ABI as the public header has it."""
    match = _ABI.search(header)
    if match is None:
        raise BuildError(f"{HEADER}: defines no KPATCH_ABI")
    return int(match["abi"])


def livepatch(template: str, name: str, emitted: EmittedObject, replace: bool = False) -> str:
    """The C of the tables for the kernel's own livepatch."""
    return _render(
        template,
        functions=emitted.functions,
        hooks=emitted.hooks,
        objects=_objects(emitted),
        replace=replace,
        description=f"kpatch.fleet: {name}",
    )


def tables(
    template: str,
    name: str,
    emitted: EmittedObject,
    originals: Originals,
    consistency: Mapping[str, str],
    replace: bool = False,
) -> str:
    """The C of the tables; raise BuildError if a symbol can't be named in C."""
    for identifier in [
        *(function.alias for function in emitted.functions),
        *(hook.alias for hook in emitted.hooks),
        *(reloc.place for reloc in emitted.relocs),
    ]:
        if not _IDENTIFIER.fullmatch(identifier):
            raise BuildError(f"{identifier!r} can't be named in C")
    return _render(
        template,
        functions=emitted.functions,
        originals=originals,
        hooks=emitted.hooks,
        relocs=emitted.relocs,
        objects=_objects(emitted),
        leave=consistency["leave"],
        switch=consistency["switch"],
        means=consistency.get("means", STOPPING),
        replace=replace,
        description=f"kpatch.fleet: {name}",
    )


def module(template: str, srcversion: str, undefined: Iterable[str], exports: Mapping[str, Export]) -> str:
    """The C that makes a module of it: *undefined* are the symbols that it takes from kernel and core module."""
    used = {symbol: exports[symbol] for symbol in sorted({_LAYOUT, *undefined}) if symbol in exports}
    return _render(
        template,
        srcversion=srcversion,
        versions=[(symbol, export.crc) for symbol, export in used.items()],
        depends=sorted({export.module for export in used.values()} - {VMLINUX}),
        namespaces=sorted({export.namespace for export in used.values()} - {""}),
    )


def c_string(text: str) -> str:
    """A C string literal."""
    return '"' + "".join(_escaped(character) for character in text) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    if " " <= character <= "~":
        return character
    return "".join(f"\\{byte:03o}" for byte in character.encode())


def _objects(emitted: EmittedObject) -> list[dict[str, Any]]:
    """One entry per object, vmlinux first."""
    names = {function.object for function in emitted.functions} | {reloc.object for reloc in emitted.relocs}
    names |= {hook.object for hook in emitted.hooks} | (emitted.referenced - {VMLINUX})
    return [
        {
            "module": None if name == VMLINUX else name,
            "functions": [function for function in emitted.functions if function.object == name],
            "hooks": [hook for hook in emitted.hooks if hook.object == name],
            "relocs": [reloc for reloc in emitted.relocs if reloc.object == name],
        }
        for name in sorted(names, key=lambda name: (name != VMLINUX, name))
    ]


def _render(template: str, **values: Any) -> str:
    if jinja2 is None:
        raise BuildError("the Python module jinja2 is missing on the builder; install python3-jinja2")
    environment = jinja2.Environment(
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["c_string"] = c_string
    return environment.from_string(template).render(**values)
