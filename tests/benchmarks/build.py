# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What building a patch costs, stage by stage: the first one on a kernel that the builder has never seen, later ones.

Arguments: a kernel's series, and how often to repeat; PERFORMANCE_PAGE names the page that the results are written to.
The cache is one of its own, which has the kernel's packages as links, and is thrown away. Of several rounds the
shortest is told for each patch.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible_collections.kpatch.fleet.plugins.module_utils.build import debian
from ansible_collections.kpatch.fleet.plugins.module_utils.build.identity import Identity
from ansible_collections.kpatch.fleet.plugins.module_utils.manifest import CORE_NAME
from matrix import CACHE, kernel
from measure import told, watched
from report import machine, put, table
from staged import STAGES

HERE = Path(__file__).parent
PATCHES = {
    "one small object": HERE / "patches/small.patch",
    "net/core/dev.c": HERE / "patches/dev.patch",
    "five files": HERE / "patches/five.patch",
    "fs/ext4/ext4.h": HERE / "patches/ext4-header.patch",
    "include/net/tcp.h": HERE / "patches/tcp-header.patch",
}
FIRST, LATER = "first", "later"
BEGIN, END = "<!-- bench-build: begin -->", "<!-- bench-build: end -->"

Row = dict[str, Any]
Found = dict[tuple[str, str], Row]


def small_cache(directory: Path, identity: Identity) -> Path:
    """A cache without a prepared kernel, with links to the packages of one, and to toolchains."""
    cache = directory / "cache"
    (cache / "downloads").mkdir(parents=True)
    debian.Packages(CACHE, identity).fetch(told)
    for package in (CACHE / "downloads").glob("*.deb"):
        (cache / "downloads" / package.name).symlink_to(package)
    for shared in ("toolchains", "archives"):
        if (CACHE / shared).is_dir():
            (cache / shared).symlink_to(CACHE / shared)
    return cache


def empty(store: Path, release: str) -> None:
    """Leave the core module in the store and nothing else."""
    for built in (store / release).glob("*"):
        if built.name != CORE_NAME:
            shutil.rmtree(built)


def build(one: dict[str, Any], patch: Path, cache: Path, store: Path) -> Row:
    """One build, in a process of its own, and what it took."""
    notes = store.parent / "notes.json"
    asked = {"kernel": one, "name": patch.stem, "patch": str(patch), "cache": str(cache), "store": str(store)}
    said: list[str] = []
    try:
        taken = watched([sys.executable, HERE / "staged.py", json.dumps(asked), notes], said.append)
    except SystemExit as error:
        raise SystemExit("\n".join([f"{patch.name}: {error}", *said[-30:]])) from error
    noted = json.loads(notes.read_text(encoding="utf-8"))
    stages: dict[str, tuple[float, float, float]] = {}
    for name, begin, end, busy in noted["stages"]:
        seconds, processor, most = stages.get(name, (0.0, 0.0, 0.0))
        stages[name] = (seconds + end - begin, processor + busy, max(most, taken.peak(begin, end)))
    figures = {"seconds": taken.seconds, "cpu_seconds": taken.cpu_seconds, "mb": taken.most}
    return {**figures, "objects": noted["objects"], "stages": stages}


def one_round(one: dict[str, Any]) -> Iterator[tuple[str, str, Row]]:
    """The first patch on a new kernel, then every patch, into a store that has nothing but the kernel's core module."""
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="bench-build-") as scratch:
        cache, store = small_cache(Path(scratch), Identity.of(one)), Path(scratch, "store")
        for number, (case, patch) in enumerate([*list(PATCHES.items())[:1], *PATCHES.items()]):
            empty(store, one["release"])
            row = build(one, patch, cache, store)
            which = LATER if number else FIRST
            told(f"{case}, {which}: {row['objects']} objects, {row['seconds']:.1f} s, {row['mb']:.0f} MB")
            yield case, which, row


def measure(one: dict[str, Any], repeats: int) -> Iterator[Found]:
    """The shortest of each, as far as it was measured; told after each build."""
    found: Found = {}
    for _round in range(repeats):
        for case, which, row in one_round(one):
            found[case, which] = min(row, found.get((case, which), row), key=lambda each: each["seconds"])
            yield found


def wholes(found: Found) -> str:
    """Every build."""
    head = ("patch", "on this kernel", "objects looked at", "seconds", "processor seconds", "MB")
    return table(
        head,
        [
            [
                case,
                which,
                str(row["objects"]),
                *(f"{row[key]:.1f}" for key in ("seconds", "cpu_seconds")),
                f"{row['mb']:.0f}",
            ]
            for (case, which), row in found.items()
        ],
    )


def stages(found: Found, inner: bool) -> str:
    """Every stage of every build that has it; of those that run side by side the seconds alone."""
    cells = []
    for name in (stage.name for stage in STAGES if stage.inner == inner):
        shown = [_stage(row["stages"].get(name), inner) for row in found.values()]
        if any(shown):
            cells.append([name, *shown])
    return table(["stage", *(f"{case}, {which}" for case, which in found)], cells)


def _stage(part: tuple[float, float, float] | None, inner: bool) -> str:
    if part is None:
        return ""
    seconds, processor, most = part
    return f"{seconds:.2f} s" if inner else f"{seconds:.2f} s, {processor:.2f} CPU s, {most:.0f} MB"


def text(found: Found) -> str:
    """All tables."""
    inner = "Within compile and compare, as the sum of what runs side by side:"
    return f"{wholes(found)}\n{stages(found, inner=False)}\n{inner}\n\n{stages(found, inner=True)}"


def main() -> None:
    """Measure, print, and put it into the page."""
    series, repeats = sys.argv[1], int(sys.argv[2])
    one = kernel(series)["kernel"]
    load = os.getloadavg()[0]
    result = ""
    for found in measure(one, repeats):
        result = text(found)
        # What was measured is kept if the rest is not.
        write(f"{one['release']} on {machine()}, load {load:.1f} to {os.getloadavg()[0]:.1f}", series, repeats, result)
    print(result)


def write(where: str, series: str, repeats: int, result: str) -> None:
    """Put the results into the page."""
    page = os.environ.get("PERFORMANCE_PAGE")
    if page:
        head = f"Measured for {where}, by `make bench-build SERIES={series} REPEATS={repeats}`."
        put(Path(page), BEGIN, END, f"{head}\n\n{result}")


if __name__ == "__main__":
    main()
