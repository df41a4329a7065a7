# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every C file that a stable update changes, as one patch: what is built, and what the kernel says of that.

Arguments: the source version of the kernel that runs, and the one that the fixes are from. Environment: LIMIT, how many
files to try, spread evenly; BOOT=0 builds only. What was built before by the same builder is not built again.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import booted
import changes
import outcome
import table
from ansible_collections.kpatch.fleet.plugins.module_utils.build import core_module, makefiles, patch_module
from ansible_collections.kpatch.fleet.plugins.module_utils.build.identity import Identity
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import VMLINUX
from ansible_collections.kpatch.fleet.plugins.module_utils.build.run import workers
from ansible_collections.kpatch.fleet.plugins.module_utils.build.tree import Tree
from ansible_collections.kpatch.fleet.plugins.plugin_utils.build import patch_sources, read_sources

ROOT = Path(__file__).parents[2]
CACHE = Path(os.environ.get("KPATCH_CACHE") or Path.home() / ".cache/kpatch.fleet")
LAB = os.environ.get("KPATCH_LAB", "corpus")


def main(older: str, newer: str) -> int:
    """The whole run; 1 if anything is an error or was not taken by the kernel."""
    home = CACHE / "corpus" / f"{older}-{newer}"
    kernel, tree = changes.prepared(CACHE, older)
    found, others = changes.changes(tree, changes.newer_source(CACHE, newer))
    chosen = _sample(found, int(os.environ.get("LIMIT") or 0))
    print(f"{len(found)} changed C files are built into kernel {kernel.release}; trying {len(chosen)}", flush=True)
    core = core_module.Request(read_sources(ROOT / "kmod/core"), kernel, CACHE, home / "store")
    made = core_module.build(core, False, print)
    outcomes = sorted(_build_all(chosen, kernel, home), key=lambda each: each.path)
    if os.environ.get("BOOT") != "0":
        assert made.path is not None
        _boot_all(outcomes, tree, made.path / "kpatch.ko", older)
    command = f"make corpus FROM={older} TO={newer}" + (
        f" LIMIT={os.environ['LIMIT']}" if os.environ.get("LIMIT") else ""
    )
    text = table.table(f"{older} to {newer}", command, outcomes, others)
    (home / "coverage.md").write_text(text, encoding="utf-8")
    print(text)
    bad = [each for each in outcomes if each.result == outcome.ERROR or each.booted not in ("", "ok")]
    for each in bad:
        print(f"error: {each.path}: {each.booted} {' '.join(each.reasons)}")
    return 1 if bad else 0


def _sample(found: list[changes.Change], limit: int) -> list[changes.Change]:
    if not 0 < limit < len(found):
        return found
    return [found[number * len(found) // limit] for number in range(limit)]


def _build_all(chosen: list[changes.Change], kernel: Identity, home: Path) -> Iterator[outcome.Outcome]:
    with ProcessPoolExecutor(workers()) as pool:
        work = [pool.submit(_build_one, change, kernel, home) for change in chosen]
        for number, done in enumerate(as_completed(work), 1):
            result = done.result()
            print(f"{number}/{len(work)} {result.path}: {result.result} ({result.seconds} s)", flush=True)
            yield result


def _build_one(change: changes.Change, kernel: Identity, home: Path) -> outcome.Outcome:
    sources = patch_sources(ROOT / "kmod")
    consistency = {"leave": "patched_set", "switch": "kernel"}
    request = patch_module.Request(change.name, change.diff, consistency, sources, kernel, CACHE, home / "store")
    return outcome.build(change, request, home / "outcomes")


def _boot_all(outcomes: list[outcome.Outcome], tree: Tree, core: Path, version: str) -> None:
    built = [each for each in outcomes if each.result == outcome.BUILT]
    objects = makefiles.built(tree, print)
    with booted.machine(CACHE, LAB, changes.kernel(CACHE, version)) as host:
        host.send([core])
        host.load("kpatch")
        host.complaints()
        for number, each in enumerate(built, 1):
            modules = [name for name in objects[each.path] if name != VMLINUX]
            each.booted = booted.try_module(host, each, modules[0] if modules else "")
            print(f"{number}/{len(built)} {each.path}: {each.booted}", flush=True)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
