# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian's kpatch-build and our builder side by side: the same patches for the same kernel, whole and the diff stage.

Arguments: a kernel's series, how often the diff stage is repeated, and what to measure: 'diff' is the diff stage alone,
on objects that we compile with kpatch-build's options, 'all' takes an hour. What is measured is kept below
$KPATCH_CACHE/peers: a run that was stopped goes on where it was, and a step's figures are then those of all its
attempts together. PERFORMANCE_PAGE names the page that the results are written to.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffing
from ansible_collections.kpatch.fleet.plugins.module_utils.build import debian, source_patch, waiting
from ansible_collections.kpatch.fleet.plugins.module_utils.build.identity import Identity
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import known
from ansible_collections.kpatch.fleet.plugins.module_utils.build.tree import look, using
from build import FIRST, LATER, PATCHES, build, empty, small_cache
from kpatch_build import Pair, Peer, marks
from matrix import CACHE, kernel
from measure import Taken, told
from report import machine, put, table

DIFF, ALL = "diff", "all"
SMALL = next(iter(PATCHES))
# Objects are compared by themselves for these; of the headers' most are the same.
COMPARED = ("one small object", "net/core/dev.c", "five files")
MARKS = ("<!-- bench-peers: begin -->", "<!-- bench-peers: end -->")
DIFF_MARKS = ("<!-- bench-peers diff: begin -->", "<!-- bench-peers diff: end -->")
_UNPACK = "unpack"
# "ERROR: filter.o: 1 unsupported section change(s)"; its last one is how many there were.
_ERROR = re.compile(r"ERROR: (?!\d+ error\(s\))(.*)")

Row = dict[str, Any]
Work = Callable[[Callable[[str], None], Callable[[Taken], None]], Taken]


class Figures:
    """What was measured so far, in a file."""

    def __init__(self, path: Path, log: Path) -> None:
        self._path, self._log = path, log
        self.rows: dict[str, Row] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def done(self, step: str) -> bool:
        """Whether a step was measured whole."""
        return bool(self.rows.get(step, {}).get("done"))

    def keep(self, step: str, row: Row) -> None:
        """Keep what a step has taken."""
        self.rows[step] = row
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps(self.rows, indent=1), encoding="utf-8")
        new.replace(self._path)

    def step(self, step: str, work: Work) -> None:
        """Do *work*, one step of kpatch-build's, unless it is done."""
        if self.done(step):
            return
        told(f"{step}: begun at {time.strftime('%H:%M')}; what it says is in {self._log}")
        before = self.rows.get(step, {"attempts": 0, "seconds": 0.0, "cpu_seconds": 0.0, "mb": 0.0, "stages": {}})
        begun: list[tuple[str, float]] = []
        errors: list[str] = []
        with self._log.open("a", encoding="utf-8") as log:

            def heard(line: str) -> None:
                marks(line, begun)
                errors.extend(_ERROR.findall(line))
                print(line, file=log, flush=True)

            taken = work(heard, lambda until: self.keep(step, _added(before, until, begun)))
        self.keep(step, {**_added(before, taken, begun), "errors": errors if taken.status else [], "done": True})
        told(f"{step}: {taken.seconds:.0f} s, {taken.cpu_seconds:.0f} processor seconds, {taken.most:.0f} MB")
        for error in errors if taken.status else []:
            told(f"{step}: it fails: {error}")


def _added(before: Row, taken: Taken, begun: list[tuple[str, float]]) -> Row:
    """What a step has taken with its earlier attempts."""
    stages = {name: list(what) for name, what in before["stages"].items()}
    for (name, begin), (_next, end) in zip(begun, [*begun[1:], ("", taken.end)]):
        seconds, most = stages.get(name, (0.0, 0.0))
        stages[name] = [seconds + end - begin, max(most, taken.peak(begin, end))]
    return {
        "attempts": before["attempts"] + 1,
        "seconds": before["seconds"] + taken.seconds,
        "cpu_seconds": before["cpu_seconds"] + taken.cpu_seconds,
        "mb": max(before["mb"], taken.most),
        "load": os.getloadavg()[0],
        "stages": stages,
    }


class Run:
    """Both builders on one kernel."""

    def __init__(self, one: dict[str, Any], peer: Peer, figures: Figures, repeats: int) -> None:
        self.one, self.peer, self.figures, self.repeats = one, peer, figures, repeats
        self.home = peer.home

    def all(self) -> None:
        """Everything, the shortest first after the first."""
        debian.Packages(CACHE, Identity.of(self.one)).fetch(told)
        self.figures.step(_UNPACK, self.peer.unpack)
        for patch in PATCHES.values():
            self.peer.keep([file.path for file in source_patch.parse(source_patch.read_text(patch))])
        self.theirs(SMALL, FIRST)
        self.ours(SMALL, FIRST)
        for case in PATCHES:
            self.theirs(case, LATER)
            self.ours(case, LATER)

    def theirs(self, case: str, which: str) -> None:
        """kpatch-build's build of a patch; its objects are compared by themselves too."""
        step = f"kpatch-build: {case}, {which}"
        self.figures.step(step, lambda heard, looked: self.peer.build(PATCHES[case], heard, looked))
        compared = f"diff: {case}"
        if which == LATER and case in COMPARED and not self.figures.done(compared):
            pairs = self.peer.pairs(self.home / "objects" / PATCHES[case].stem)
            self.figures.keep(compared, {"rows": diffing.measure(pairs, self.peer, self.repeats), "done": True})

    def ours(self, case: str, which: str) -> None:
        """Our build of it, right after, with a cache of its own."""
        step = f"kpatch.fleet: {case}, {which}"
        if self.figures.done(step):
            return
        place = self.home / "ours"
        if which == FIRST:
            shutil.rmtree(place, ignore_errors=True)
            small_cache(place, Identity.of(self.one))
        empty(place / "store", self.one["release"])
        row = build(self.one, PATCHES[case], place / "cache", place / "store")
        self.figures.keep(step, {**row, "load": os.getloadavg()[0], "attempts": 1, "done": True})
        told(f"{step}: {row['seconds']:.0f} s, {row['cpu_seconds']:.0f} processor seconds, {row['mb']:.0f} MB")


def wholes(rows: dict[str, Row]) -> str:
    """Each patch that both have built, or kpatch-build has failed to."""
    cells, failed = [], []
    for which, case in [(FIRST, SMALL), *((LATER, case) for case in PATCHES)]:
        theirs, ours = (rows.get(f"{who}: {case}, {which}", {}) for who in ("kpatch-build", "kpatch.fleet"))
        if not (theirs.get("done") and ours.get("done")):
            continue
        if which == FIRST:
            theirs = {**theirs, **{key: theirs[key] + rows[_UNPACK][key] for key in ("seconds", "cpu_seconds")}}
        shown = [f"{row[key]:.1f}" for row in (theirs, ours) for key in ("seconds", "cpu_seconds")]
        ratios = [f"{theirs[key] / ours[key]:.1f}" for key in ("seconds", "cpu_seconds")]
        sizes = [f"{row['mb']:.0f}" for row in (theirs, ours)]
        cells.append([f"{case}, {which}", *shown, *ratios, *sizes, f"{theirs['load']:.1f} / {ours['load']:.1f}"])
        if theirs["errors"]:
            failed.append(f"\nkpatch-build fails with {case}, after that time: {'; '.join(theirs['errors'])}.\n")
    who = ("kpatch-build", "kpatch.fleet")
    head = ["patch", *(f"{name}, {what}" for name in who for what in ("s", "CPU s")), "ratio", "ratio of CPU"]
    return table([*head, *(f"{name}, MB" for name in who), "load"], cells) + "".join(failed)


def stages(rows: dict[str, Row]) -> str:
    """kpatch-build's stages."""
    found = {
        step.partition(": ")[2]: row for step, row in rows.items() if step.startswith("kpatch-build") and "done" in row
    }
    names = dict.fromkeys(name for row in found.values() for name in row["stages"])
    cells = []
    for name in names:
        parts = [row["stages"].get(name) for row in found.values()]
        cells.append([name, *(f"{part[0]:.1f} s, {part[1]:.0f} MB" if part else "" for part in parts)])
    return table(["kpatch-build's stage", *found], cells)


def write(marked: tuple[str, str], result: str, what: str, command: str) -> None:
    """Print the results, and put them into the page."""
    print(result)
    page = os.environ.get("PERFORMANCE_PAGE")
    if page:
        head = f"Measured {what} on {machine()}, load {os.getloadavg()[0]:.1f} at its end, by `{command}`."
        put(Path(page), *marked, f"{head}\n\n{result}")


def whole(rows: dict[str, Row]) -> str:
    """All tables of the whole comparison."""
    alone = [row for case in COMPARED for row in rows[f"diff: {case}"]["rows"]]
    return f"{wholes(rows)}\n{stages(rows)}\n{diffing.text(alone)}"


def diff_alone(one: dict[str, Any], peer: Peer, repeats: int) -> str:
    """The diff stage, on objects of our making."""
    with tempfile.TemporaryDirectory(prefix="bench-peers-") as scratch:
        pairs: list[Pair] = []
        with using(CACHE, Identity.of(one), told) as tree:
            for case in COMPARED:
                folder = Path(scratch, PATCHES[case].stem)
                folder.mkdir()
                pairs += diffing.by_hand(tree, PATCHES[case], folder)
        return diffing.text(diffing.measure(pairs, peer, repeats))


def main() -> None:
    """Measure what is asked for."""
    series, repeats, what = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    if what not in (DIFF, ALL):
        raise SystemExit(f"STAGE is '{what}': it can be '{DIFF}', or '{ALL}', which takes an hour")
    one = kernel(series)["kernel"]
    tree = known(look(CACHE, Identity.of(one)), "kernel() has found it prepared")
    home = CACHE / "peers" / one["release"]
    home.mkdir(parents=True, exist_ok=True)
    peer = Peer(CACHE, home, tree)
    peer.make_root()
    named = f"for {one['release']}, kpatch-build {peer.version},"
    command = f"make bench-peers SERIES={series} REPEATS={repeats} STAGE={what}"
    if what == DIFF:
        write(DIFF_MARKS, diff_alone(one, peer, repeats), f"{named} minimum / median,", command)
    else:
        with waiting.held(home / "lock", f"the comparison for kernel {tree.release}", told):
            figures = Figures(home / "figures.json", home / "kpatch-build.log")
            Run(one, peer, figures, repeats).all()
        write(MARKS, whole(figures.rows), named, command)


if __name__ == "__main__":
    main()
