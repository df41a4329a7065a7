# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which object files a source patch touches: those of its C files, and of C files that include what it changes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from ansible_collections.kpatch.fleet.plugins.module_utils.build import includes, kbuild, makefiles, mentions
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import Refusal
from ansible_collections.kpatch.fleet.plugins.module_utils.build.overlay import Texts
from ansible_collections.kpatch.fleet.plugins.module_utils.build.source_patch import WHOLE_FILE, FilePatch, read_text
from ansible_collections.kpatch.fleet.plugins.module_utils.build.tree import Say, Tree


@dataclass
class Touched:
    """The units to look at."""

    changed: list[kbuild.Unit] = field(default_factory=list)  # of C files that the patch changes
    including: list[kbuild.Unit] = field(default_factory=list)  # of others, which include what it changes
    added: list[kbuild.Unit] = field(default_factory=list)  # of C files that it adds
    removed: list[kbuild.Unit] = field(default_factory=list)  # of C files that it takes away
    fixed: list[kbuild.Unit] = field(default_factory=list)  # which include what it changes, and can't be patched
    refusals: list[Refusal] = field(default_factory=list)
    # Every file that may include what the patch changes, compiled or not.
    includers: set[str] = field(default_factory=set)

    def __len__(self) -> int:
        units = (self.changed, self.including, self.added, self.removed, self.fixed)
        return sum(map(len, units))


def find(tree: Tree, files: list[FilePatch], texts: Texts, say: Say) -> Touched:
    """The units that the patch of *files* touches; *texts* are theirs once it is applied."""
    built, fixed = makefiles.built(tree, say), makefiles.fixed(tree, say)
    changed = {file.path for file in files if file.path in built and not file.removed}
    removed = {file.path for file in files if file.path in built and file.removed}
    by_others = includes.c_files(tree, say)
    alone = {file.path for file in files if file.added or (file.path in built and file.path not in by_others)}
    included = {file.path for file in files if file.header or file.path not in alone}
    everything = {**built, **fixed}
    includers, using = users(tree, included, texts, everything, say) if included else (set(), set())
    including = using - changed - removed
    wanted = sorted(changed | including | removed)
    if wanted:
        say(f"{tree.release}: asking kbuild how {len(wanted)} files are compiled")
    units, refusals = _units(tree, wanted, everything, say)
    touched = Touched(refusals=refusals, includers=includers)
    touched.changed = [unit for unit in units if unit.source in changed]
    touched.including = [unit for unit in units if unit.source in including - fixed.keys()]
    touched.fixed = [unit for unit in units if unit.source in including & fixed.keys()]
    touched.removed = [unit for unit in units if unit.source in removed]
    for unit in touched.changed:
        if not unit.traced:
            touched.refusals.append(_refusal(unit.source, _UNTRACED))
    _add(touched, [file.path for file in files if file.added and not file.header])
    return touched


def _units(
    tree: Tree, sources: Iterable[str], into: makefiles.Built, say: Say
) -> tuple[list[kbuild.Unit], list[Refusal]]:
    """How the files are compiled; those of which numbers are made like another one."""
    asked = {source: into[source] for source in sources}
    numbers = {source: asked.pop(source) for source in makefiles.NUMBERS if source in asked}
    units, refusals = kbuild.units(tree, asked, say)
    for source, objects in numbers.items():
        likes, failed = kbuild.units(tree, {makefiles.NUMBERS[source]: objects[:1]}, say)
        units += [kbuild.new_unit(like, source) for like in likes]
        refusals += failed
    return units, refusals


_UNTRACED = "it is compiled without calls to the function tracer, so nothing in it can be redirected"


def users(
    tree: Tree, paths: Collection[str], texts: Texts, built: Iterable[str], say: Say
) -> tuple[set[str], set[str]]:
    """The files that may include one of *paths*, and those of them that are *built* and may use what it changes."""
    present: Mapping[str, str] = {path: text for path, text in texts.items() if text is not None}
    graph = includes.Includes(tree, present, say)
    includers = graph.includers(paths)
    changed = {path: (_before(tree, path), texts[path] or "") for path in paths}
    say(f"{tree.release}: looking for the names of what changes in {', '.join(sorted(paths))}")
    return includers, mentions.users(tree, changed, includers & set(built), graph)


def _before(tree: Tree, path: str) -> str:
    return read_text(tree.source / path) if (tree.source / path).exists() else ""


def unbuilt(tree: Tree, files: list[FilePatch], touched: Touched, say: Say) -> list[Refusal]:
    """A refusal for each C file of the patch that no object file of this kernel is made of."""
    built = makefiles.built(tree, say)
    somewhere = built.keys() | makefiles.fixed(tree, say).keys()
    reason = f"kernel {tree.release} is built without it; leave it out of the diff"
    return [
        _refusal(file.path, reason)
        for file in files
        if not (file.header or file.added or file.path in built or touched.includers & somewhere)
    ]


def _add(touched: Touched, paths: list[str]) -> None:
    """A new file becomes part of what the changed files beside it are part of: nothing else could call it."""
    changed = [*touched.removed, *touched.changed]
    for path in paths:
        directory = PurePosixPath(path).parent
        likes = {unit.object: unit for unit in changed if PurePosixPath(unit.source).parent == directory}
        if len(likes) == 1:
            touched.added += [kbuild.new_unit(unit, path) for unit in likes.values()]
        elif likes:
            what = ", ".join(sorted(likes))
            touched.refusals.append(
                _refusal(path, f"the files that the diff changes beside it belong to {what}; {_NEW}")
            )
        else:
            touched.refusals.append(_refusal(path, f"the diff changes no file beside it that this kernel has; {_NEW}"))


_NEW = "a new file has to be beside changed files of one module, which it becomes part of"


def _refusal(path: str, reason: str) -> Refusal:
    return Refusal(path, WHOLE_FILE, reason)
