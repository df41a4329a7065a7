# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The diff stage alone: kpatch-build's create-diff-object and our engine on the same two objects, by turns.

Ours is measured as the command objdiff, for which Python starts anew, and as the builder uses it, which has read the
kernel's symbols and exports before it compares the first object. create-diff-object reads them for each object, the
symbols out of what kpatch-build has readelf list for each; both ways to read them are measured, too. It is processor
time that is told: neither does two things at once, and what else the machine does would fall on the longer one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from ansible_collections.kpatch.fleet.plugins.module_utils.build import (
    btf,
    kbuild,
    objdiff,
    overlay,
    source_patch,
    touched,
)
from ansible_collections.kpatch.fleet.plugins.module_utils.build.diff import diff_objects
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import VMLINUX, ObjectContext
from ansible_collections.kpatch.fleet.plugins.module_utils.build.symtab import read_symbols
from ansible_collections.kpatch.fleet.plugins.module_utils.build.symvers import read_symvers
from ansible_collections.kpatch.fleet.plugins.module_utils.build.tree import Tree
from kpatch_build import Pair, Peer
from measure import told
from report import ratio, spread, table

_ALL = PEER, COMMAND, ENGINE = "create-diff-object", "objdiff", "the builder's engine"
# Debug information as the kernel's configuration says, as kpatch-build has it.
_DEBUG = "-gz=none"
# kpatch-build finds them in the debug information.
_SIZES = {
    ".altinstructions": "ALT",
    "__bug_table": "BUG",
    "__ex_table": "EX",
    "__jump_table": "JUMP",
    ".parainstructions": "PARA",
    ".static_call_sites": "STATIC_CALL",
    ".orc_unwind": "ORC",
}

Row = dict[str, Any]


def by_hand(tree: Tree, patch: Path, folder: Path) -> Iterator[Pair]:
    """The objects of the C files of *patch*, made with the options that kpatch-build makes them with."""
    files = source_patch.parse(source_patch.read_text(patch))
    texts = {file.path: source_patch.apply(file, tree.source, False).text for file in files}
    units = touched.find(tree, files, texts, told)
    plain, patched = folder / "plain", folder / "patched"
    overlay.workplace(tree.source, tree.objects, plain, {})
    overlay.workplace(tree.source, tree.objects, patched, texts, units.includers)
    for unit in units.changed:
        name = unit.source.removesuffix(".c") + ".o"
        place = folder / name
        place.mkdir(parents=True)
        pair = Pair(name, unit.object, place / "original.o", place / "patched.o")
        for out, where in ((pair.original, plain), (pair.patched, patched)):
            kbuild.compile_unit(tree, unit, out, where, sectioned=True, debug=_DEBUG)
        yield pair


def measure(pairs: Iterable[Pair], peer: Peer, repeats: int) -> list[Row]:
    """What each takes, in nanoseconds of a processor."""
    tree = peer.tree
    exports, symbols = read_symvers(tree.symvers), read_symbols(tree.vmlinux)
    entries = btf.entry_sizes(tree.vmlinux)
    sizes = {f"{_SIZES[section]}_STRUCT_SIZE": str(size) for section, size in entries.items() if section in _SIZES}
    rows = []
    with tempfile.TemporaryDirectory(prefix="bench-peers-") as scratch:
        symtab, out = Path(scratch, "symtab"), Path(scratch, "out.o")
        rows.append({"name": "the kernel's symbols", "samples": [_reading(tree, symtab) for _turn in range(repeats)]})
        for pair in pairs:
            context = ObjectContext(pair.name, VMLINUX, exports, symbols, symbols, sizes=entries)
            theirs = peer.create_diff_object(pair, symtab, out)
            ours = [sys.executable, "-m", objdiff.__name__, str(pair.original), str(pair.patched)]
            samples = []
            for _turn in range(repeats):
                begin = time.process_time_ns()
                diff_objects(pair.original, pair.patched, context)
                samples.append(
                    {
                        ENGINE: time.process_time_ns() - begin,
                        PEER: _timed(theirs, (0, 3), sizes),
                        COMMAND: _timed(ours, (objdiff.SAME, objdiff.DIFFER, objdiff.REFUSED), None),
                    }
                )
            rows.append({"name": pair.name, "samples": samples})
            told(f"{pair.name}: {', '.join(f'{what} {spread(s[what] for s in samples)}' for what in samples[0])}")
    return rows


def _reading(tree: Tree, symtab: Path) -> dict[str, int]:
    """What reading the kernel's symbols takes.

    kpatch-build also finds the sizes of entries, in a stage of its own, and its create-diff-object the exports.
    """
    with symtab.open("w", encoding="utf-8") as stream:
        listing = _timed(["readelf", "-s", "--wide", str(tree.vmlinux)], (0,), None, stream)
    begin = time.process_time_ns()
    read_symbols(tree.vmlinux)
    btf.entry_sizes(tree.vmlinux)
    read_symvers(tree.symvers)
    return {PEER: listing, ENGINE: time.process_time_ns() - begin}


def _timed(command: list[str], fine: tuple[int, ...], env: dict[str, str] | None, stdout: IO[str] | None = None) -> int:
    """What a command takes; SystemExit unless it ends in a way that is *fine*."""
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, env=env, stdout=stdout or said, stderr=said)
        _pid, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in fine:
            said.seek(0)
            raise SystemExit(f"{' '.join(command)}: failed with status {process.returncode}: {said.read()[-500:]}")
    return int((usage.ru_utime + usage.ru_stime) * 1e9)


def text(rows: list[Row]) -> str:
    """Minimum and median of each, and the median of the ratios of neighbours."""
    cells = []
    for row in rows:
        times = [
            spread(sample[what] for sample in row["samples"]) if what in row["samples"][0] else "" for what in _ALL
        ]
        ratios = [f"{ratio(row['samples'], what, PEER):.2f}" if what in row["samples"][0] else "" for what in _ALL[1:]]
        cells.append([row["name"], *times, *ratios])
    return table(("object", *_ALL, *(f"{what} : {PEER}" for what in _ALL[1:])), cells)
