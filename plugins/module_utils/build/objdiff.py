# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The diff engine as a command of its own: what differs between two object files, and what could not be patched.

It knows of no kernel: where a symbol is, and whether it is there at all, is for the builder to find out.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ansible_collections.kpatch.fleet.plugins.module_utils.build.diff import diff_objects
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import (
    VMLINUX,
    ElfError,
    ObjectContext,
    ObjectDiff,
    Refusal,
    refused_as_left,
)
from ansible_collections.kpatch.fleet.plugins.module_utils.build.symtab import read_symbols

FORMAT = 1
SAME, DIFFER, REFUSED, UNREADABLE = 0, 1, 2, 3
_WORDS = {SAME: "same", DIFFER: "differ", REFUSED: "refused"}

DESCRIPTION = "Compare two object files of one source file, function by function."
EPILOGUE = """\
Both files have to be compiled with -ffunction-sections -fdata-sections, by the same compiler with the same options.
exit status: 0 nothing differs; 1 they differ, and the difference can be patched; 2 it can't, and each reason is told;
3 a file can't be read.
"""


def compare(original: Path, patched: Path, module: str | None, source: str | None) -> ObjectDiff:
    """What differs; *module*: the name of the module that the object is part of, None for the kernel itself."""
    symbols = read_symbols(original)
    name = source or patched.name
    context = ObjectContext(name, module or VMLINUX, {}, symbols, symbols, lines_move=True)
    return diff_objects(original, patched, context)


def status(diff: ObjectDiff) -> int:
    """The exit status."""
    if _refusals(diff):
        return REFUSED
    return DIFFER if diff.differences else SAME


def as_data(diff: ObjectDiff) -> dict[str, Any]:
    """The answer for programs."""
    return {
        "format": FORMAT,
        "result": _WORDS[status(diff)],
        "object": diff.context.object,
        "functions": _listed(diff, "function"),
        "data": _listed(diff, "data"),
        "replaced": [{"name": entry.name, "reason": entry.reason} for entry in diff.changed],
        "brought_along": [
            {"name": entry.name, "reason": entry.reason} for entry in [*diff.added_functions, *diff.added_data]
        ],
        "notes": [{"name": entry.name, "reason": entry.reason} for entry in [*diff.notes, *diff.left]],
        "refusals": [{"name": refusal.function, "reason": refusal.reason} for refusal in _refusals(diff)],
    }


def as_text(answer: dict[str, Any]) -> str:
    """The answer for people."""
    lines = []
    for kind in ("functions", "data"):
        for entry in answer[kind]:
            lines.append(f"{entry['change']:8} {kind.removesuffix('s'):9} {entry['name']}: {entry['reason']}")
    lines += [f"note     {entry['name']}: {entry['reason']}" for entry in answer["notes"]]
    lines += [f"refused  {entry['name']}: {entry['reason']}" for entry in answer["refusals"]]
    return "\n".join([*lines, _summary(answer)])


def _refusals(diff: ObjectDiff) -> list[Refusal]:
    return diff.refusals + refused_as_left([diff])


def _summary(answer: dict[str, Any]) -> str:
    if answer["result"] == _WORDS[SAME]:
        return "same: no function and no data differs"
    if answer["result"] == _WORDS[REFUSED]:
        return f"refused: this difference can't be patched; reasons: {len(answer['refusals'])}"
    return f"differ: functions to replace: {len(answer['replaced'])}; to bring along: {len(answer['brought_along'])}"


def _listed(diff: ObjectDiff, kind: str) -> list[dict[str, str]]:
    return [
        {"change": each.change, "name": each.name, "reason": each.reason}
        for each in diff.differences
        if each.kind == kind
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit status."""
    parser = argparse.ArgumentParser(
        "objdiff", description=DESCRIPTION, epilog=EPILOGUE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("original", type=Path)
    parser.add_argument("patched", type=Path)
    parser.add_argument("--json", action="store_true", help="answer in JSON")
    parser.add_argument("--module", metavar="NAME", help="the module that the object is part of, if it is")
    parser.add_argument("--source", metavar="FILE", help="how to call the object in messages")
    options = parser.parse_args(arguments)
    try:
        diff = compare(options.original, options.patched, options.module, options.source)
    except ElfError as error:
        sys.stderr.write(f"objdiff: {error}\n")
        return UNREADABLE
    answer = as_data(diff)
    # A damaged file may have any bytes for a name.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    text = json.dumps(answer, indent=2, sort_keys=True) if options.json else as_text(answer)
    sys.stdout.write(f"{text}\n")
    return status(diff)


if __name__ == "__main__":
    raise SystemExit(main())
