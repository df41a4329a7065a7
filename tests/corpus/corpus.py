# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every C file that a stable update changes, as a patch with what it lacks: what is built, what the kernel says of it.

Arguments: the source version of the kernel that runs, and the one that the fixes are from. Environment: LIMIT, how many
files to try, spread evenly, so that a longer run holds a shorter one's; TIME, after how many seconds no more is begun;
USERS, how many C files may use what a patch changes in headers (each is compared, which takes the preprocessor twice);
BOOT=0 builds only. What the same builder found out before is not done again: a run that was stopped goes on.
"""

from __future__ import annotations

import functools
import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import booted
import changes
import outcome
import table
from ansible_collections.kpatch.fleet.plugins.module_utils.archive import ArchiveError
from ansible_collections.kpatch.fleet.plugins.module_utils.build import core_module, makefiles, patch_module
from ansible_collections.kpatch.fleet.plugins.module_utils.build.artifact import Result
from ansible_collections.kpatch.fleet.plugins.module_utils.build.identity import Identity
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import VMLINUX, BuildError
from ansible_collections.kpatch.fleet.plugins.module_utils.build.run import workers
from ansible_collections.kpatch.fleet.plugins.module_utils.build.tree import Tree
from ansible_collections.kpatch.fleet.plugins.plugin_utils.build import patch_sources, read_sources
from grouping import Grouping

ROOT = Path(__file__).parents[2]
CACHE = Path(os.environ.get("KPATCH_CACHE") or Path.home() / ".cache/kpatch.fleet")
LAB = os.environ.get("KPATCH_LAB", "corpus")


MOST_USERS = 150


class Run(NamedTuple):
    """What all patches of a run have in common."""

    kernel: Identity
    tree: Tree
    update: changes.Update
    home: Path
    bound: int
    deadline: float  # time.time() after which no file is begun

    @property
    def shelf(self) -> outcome.Shelf:
        """Where its outcomes are kept."""
        return outcome.Shelf(self.home / "outcomes", self.bound)


def main(older: str, newer: str) -> int:
    """The whole run; 1 if anything is an error or was not taken by the kernel."""
    home = CACHE / "corpus" / f"{older}-{newer}"
    kernel, tree = changes.prepared(CACHE, older)
    update = changes.Update.between(tree.source, changes.newer_source(CACHE, newer))
    found, others = changes.c_files(tree, update)
    limit, seconds = int(os.environ.get("LIMIT") or 0), float(os.environ.get("TIME") or "inf")
    bound = int(os.environ.get("USERS") or MOST_USERS)
    run = Run(kernel, tree, update, home, bound, time.time() + seconds)
    chosen = changes.spread(found)[: limit or None]
    print(f"{len(found)} changed C files are built into kernel {kernel.release}; trying {len(chosen)}", flush=True)
    core = core_module.build(
        core_module.Request(read_sources(ROOT / "kmod/core"), kernel, CACHE, home / "store"), False, print
    )
    assert core.path is not None
    boots = os.environ.get("BOOT") != "0"
    start = functools.partial(booted.machine, CACHE, LAB, changes.kernel(CACHE, older))
    guest = booted.Guest(start, core.path / "kpatch.ko", booted.console(CACHE, LAB))
    with guest if boots else nullcontext() as booted_guest:
        outcomes = sorted(_outcomes(chosen, run, booted_guest), key=lambda each: each.path)
    of = f"{len(outcomes)} of the {len(found)} changed C files that the kernel is built of were tried"
    text = table.table(
        f"{older} to {newer}", _command(older, newer), outcomes, f"{of}; it is not built of {others} others."
    )
    (home / "coverage.md").write_text(text, encoding="utf-8")
    print(text)
    bad = [each for each in outcomes if each.result == outcome.ERROR or each.booted not in ("", "ok")]
    for each in bad:
        print(f"error: {each.path}: {each.booted} {' '.join(each.reasons)}")
    return 1 if bad else 0


def _command(older: str, newer: str) -> str:
    given = [f"{name}={os.environ[name]}" for name in ("LIMIT", "TIME", "USERS", "BOOT") if os.environ.get(name)]
    return " ".join(["make corpus", f"FROM={older}", f"TO={newer}", *given])


def _outcomes(chosen: list[str], run: Run, guest: booted.Guest | None) -> Iterator[outcome.Outcome]:
    """What becomes of each file; a module is loaded as soon as it is built, while others are."""
    objects = makefiles.built(run.tree, print)
    for each in _side_by_side(chosen, run):
        if guest is not None and each.result == outcome.BUILT and each.booted != "ok":
            modules = [name for name in objects[each.path] if name != VMLINUX]
            guest.try_module(each, modules[0] if modules else "")
            run.shelf.keep(each)
            print(f"{each.path}: {each.booted}", flush=True)
        yield each


def _side_by_side(chosen: list[str], run: Run) -> Iterator[outcome.Outcome]:
    with ProcessPoolExecutor(workers()) as pool:
        work = [pool.submit(_one, path, run) for path in chosen]
        for number, done in enumerate(as_completed(work), 1):
            result = done.result()
            if result is not None:
                print(f"{number}/{len(work)} {result.path}: {result.result} ({result.seconds} s)", flush=True)
                yield result


def _one(path: str, run: Run) -> outcome.Outcome | None:
    """What becomes of one file; None if it is too late to begin with it."""
    found = run.shelf.find(path)
    if found is None and time.time() < run.deadline:
        found = outcome.find_out(path, Grouping(run.tree, run.update), _builder(run), run.bound)
        run.shelf.keep(found)
    return found


def _builder(run: Run) -> Callable[[frozenset[str]], Result]:
    """Builds the patch of some files; it is called by what is in it, so that two groups of the same files are one."""

    def build(files: frozenset[str]) -> Result:
        diff = run.update.diff(files)
        name = "fix-" + hashlib.sha256(diff.encode("utf-8", "surrogateescape")).hexdigest()[:12]
        consistency = {"leave": "patched_set", "switch": "kernel"}
        where = (run.kernel, CACHE, run.home / "store")
        request = patch_module.Request(name, diff, consistency, patch_sources(ROOT / "kmod"), *where)
        return patch_module.build(request, False, lambda line: None)

    return build


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except (ArchiveError, BuildError) as error:
        sys.exit(f"corpus: {error}")
