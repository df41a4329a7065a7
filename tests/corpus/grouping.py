# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What belongs into one patch with a changed C file: the other files of its update that it can't do without.

A patch begins as the C file alone. What the builder says is lacking is added, and no more: to a file that does not
compile the smallest set of changed headers with which it does, to a symbol that is nowhere the changed file that
defines it. A file that no longer compiles because of a header in the patch is added with its own change, if it has one.
"""

from __future__ import annotations

import os
import posixpath
import re
import tempfile
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

from ansible_collections.kpatch.fleet.plugins.module_utils.build import kbuild, makefiles, overlay, reasons, touched
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import Refusal, RefusedError
from ansible_collections.kpatch.fleet.plugins.module_utils.build.source_patch import write_text
from ansible_collections.kpatch.fleet.plugins.module_utils.build.tree import Tree
from changes import Update

# What the builder says where a file lacks the change of another one.
DOES_NOT_COMPILE = "it does not compile"
UNDEFINED = "the patch refers to it, but neither"
_VARIABLE = r"^(?!extern\b)\w[\w \t*]*\b{name}\b[ \t]*(?:\[[^\]]*\][ \t]*)*(?:=|;)"


class Grouping:
    """Adds to the patches of one update what they lack in the kernel of *tree*."""

    def __init__(self, tree: Tree, update: Update) -> None:
        self._tree, self._update = tree, update
        self._built = makefiles.built(tree, print)

    def lacking(self, files: Collection[str], refusals: Iterable[Refusal]) -> set[str]:
        """What of the update a patch of *files* lacks, which the builder refused; empty if nothing of it helps."""
        more: set[str] = set()
        for refusal in refusals:
            if refusal.reason.startswith(DOES_NOT_COMPILE):
                own = {refusal.file} & self._update.changed
                more |= own | set(self.headers(refusal.file, {*files, *more, *own}))
            elif refusal.reason.startswith(UNDEFINED):
                more |= self.definers(refusal.function, refusal.file)
        return more - set(files)

    def users(self, files: Iterable[str]) -> int:
        """How many C files of the kernel may use what the update changes in the headers among *files*."""
        texts = {path: self._update.after(path) for path in files if not path.endswith(".c")}
        return len(touched.users(self._tree, texts, texts, self._built, lambda line: None)[1]) if texts else 0

    def headers(self, source: str, given: Collection[str]) -> list[str]:
        """The smallest set of changed headers with which *source* compiles where *given* are changed already.

        What it includes is told by the compiler, of the newer source. None may do; the list is empty then.
        """
        units = kbuild.units(self._tree, {source: self._built.get(source, ())})[0]
        if not units:
            return []
        unit = units[0]
        with tempfile.TemporaryDirectory(prefix="kpatch-group-") as scratch:
            newer = Path(scratch, "newer")
            overlay.workplace(self._update.newer, self._tree.objects, newer, {})
            try:
                included = _listed(kbuild.asked(self._tree, unit, newer, "-M"))
            except RefusedError:
                return []
            candidates = [path for path in included & self._update.changed if path not in given]
            trial = _Trial(self._tree, self._update, unit, given, candidates, Path(scratch, "trial"), included)
            return smallest(sorted(candidates, key=lambda path: (_apart(source, path), path)), trial.compiles) or []

    def definers(self, name: str, user: str) -> set[str]:
        """The changed C file, the nearest to *user*, that defines *name* and did not before; none, or one."""
        found = [path for path in self._update.changed if self._defines(path, name)]
        return set(sorted(found, key=lambda path: (_apart(user, path), path))[:1])

    def _defines(self, path: str, name: str) -> bool:
        if not path.endswith(".c") or not (path in self._built or self._update.before(path) is None):
            return False
        return defines(self._update.after(path), name) and not defines(self._update.before(path) or "", name)


class _Trial:
    """A place to compile one file in, where some others can each be the older one or the newer."""

    def __init__(
        self,
        tree: Tree,
        update: Update,
        unit: kbuild.Unit,
        given: Collection[str],
        candidates: Collection[str],
        place: Path,
        included: Iterable[str],
    ) -> None:
        self._tree, self._update, self._unit, self._place = tree, update, unit, place
        self._newer = set(candidates)  # those of the candidates that are the newer one in the place
        self._candidates = frozenset(candidates)
        texts = {path: update.after(path) for path in {*given, *candidates}}
        overlay.workplace(tree.source, tree.objects, place, texts, included)

    def compiles(self, chosen: Collection[str]) -> bool:
        """Whether the file does where *chosen* are the newer ones and the other candidates the older."""
        for path in self._candidates & (self._newer ^ set(chosen)):
            self._put(path, self._update.after(path) if path in chosen else self._update.before(path))
        self._newer = set(chosen)
        try:
            kbuild.asked(self._tree, self._unit, self._place, "-fsyntax-only")
        except RefusedError:
            return False
        return True

    def _put(self, path: str, text: str | None) -> None:
        file = self._place / overlay.SOURCE / path
        file.unlink(missing_ok=True)
        if text is not None:
            write_text(file, text)


def smallest(candidates: Sequence[str], enough: Callable[[Collection[str]], bool]) -> list[str] | None:
    """A part of *candidates* that is *enough*, and of which nothing can be left out; None if all are not enough.

    Where more can break what less did not, a header that wants another one's change, it may be larger than it must.
    It is found by halving (U. Junker, "QuickXplain", AAAI 2004, section 4): 2k·log2(n/k) + 2k questions for k of n. Of
    candidates that could stand in for one another the first is kept.
    """
    if enough([]):
        return []
    if not candidates or not enough(candidates):
        return None

    def needed(given: list[str], more: bool, left: Sequence[str]) -> list[str]:
        """What of *left* is needed beside *given*, which are enough with all of it.

        *more* if some of *given* were not there when it was last asked.
        """
        if more and enough(given):
            return []
        if len(left) == 1:
            return list(left)
        half = len(left) // 2
        behind = needed([*given, *left[:half]], True, left[half:])
        return [*needed([*given, *behind], bool(behind), left[:half]), *behind]

    return needed([], False, candidates)


def defines(text: str, name: str) -> bool:
    """Whether a C file's text defines a function or a variable *name*."""
    if name not in text:
        return False
    return name in reasons.functions(text) or re.search(_VARIABLE.format(name=re.escape(name)), text, re.M) is not None


def _listed(rule: str) -> set[str]:
    """The files of the source that a makefile's rule names, as the compiler writes it."""
    words = rule.replace("\\\n", " ").split()
    inside = (posixpath.normpath(word) for word in words if word.startswith(f"{overlay.SOURCE}/"))
    return {posixpath.relpath(path, overlay.SOURCE) for path in inside}


def _apart(path: str, other: str) -> int:
    """How many directories are between two files: what is near is included by few."""
    return os.path.relpath(other, posixpath.dirname(path)).count("/")
