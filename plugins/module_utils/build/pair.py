# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One unit, compiled without and with the source patch, and compared: with each other, and with what was shipped."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Optional

from ansible_collections.kpatch.fleet.plugins.module_utils.build import (
    elf,
    kbuild,
    layouts,
    makefiles,
    match,
    static_branch,
    unused,
)
from ansible_collections.kpatch.fleet.plugins.module_utils.build.diff import diff_objects
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import (
    ObjectContext,
    ObjectDiff,
    Refusal,
    RefusedError,
)
from ansible_collections.kpatch.fleet.plugins.module_utils.build.originals import originals
from ansible_collections.kpatch.fleet.plugins.module_utils.build.source_patch import WHOLE_FILE
from ansible_collections.kpatch.fleet.plugins.module_utils.build.tree import Tree

Outcome = tuple[Optional[ObjectDiff], list[Refusal]]  # no diff: nothing in the object changed
_Make = Callable[[Path, bool], None]  # makes an object file; whether static branches are to be long
_Lengths = Optional[dict[str, int]]  # of the original's functions, if static branches are to be long
_Texts = tuple[str, str]  # what the compiler gets to see without and with the patch


class Pair:
    """Compares units of *tree*, made in the workplaces *plain* and *patched*; several may be at work at once."""

    def __init__(
        self,
        tree: Tree,
        plain: Path,
        patched: Path,
        folder: Path,
        context: Callable[[kbuild.Unit], ObjectContext],
        image: Callable[[str], Path],
    ) -> None:
        self._tree, self._plain, self._patched, self.folder = tree, plain, patched, folder
        self._context, self._image = context, image
        self._numbers = itertools.count()
        for place in (plain, patched):
            static_branch.make_room(place)

    def including(self, unit: kbuild.Unit) -> Outcome:
        """A unit that may include what the patch changes: most turn out to have nothing of it, or no use for it."""
        try:
            texts = self._preprocessed(unit)
        except RefusedError as error:
            return None, error.refusals
        if texts[0] == texts[1] or unused.differ_in_unused(*texts):
            return None, []
        return self._changed(unit, lambda: texts)

    def changed(self, unit: kbuild.Unit) -> Outcome:
        """A unit that the patch changes."""
        return self._changed(unit, lambda: self._preprocessed(unit))

    def added(self, unit: kbuild.Unit) -> Outcome:
        """A unit that the patch adds: all of it is new."""
        return self._guarded(unit, self._nothing(unit), self._sectioned(unit, self._patched))

    def removed(self, unit: kbuild.Unit) -> Outcome:
        """A unit that the patch takes away: all of it is gone, but stays in the kernel."""
        return self._guarded(unit, self._sectioned(unit, self._plain), self._nothing(unit))

    def fixed(self, unit: kbuild.Unit) -> Outcome:
        """A unit that may include what the patch changes, and can't be patched itself."""
        try:
            texts = self._preprocessed(unit)
        except RefusedError as error:
            return None, error.refusals
        same = texts[0] == texts[1] or (unit.source.endswith(".c") and unused.differ_in_unused(*texts))
        if same or self._compiles_alike(unit):
            return None, []
        return None, [
            Refusal(
                unit.source,
                WHOLE_FILE,
                f"what it includes changes, and so would it, but {_why_fixed(unit)}; leave that change out",
            )
        ]

    def _compiles_alike(self, unit: kbuild.Unit) -> bool:
        """Whether its object file is the same; nobody knows if kbuild's command does not make it (32-bit vDSO)."""
        folder = self._new_folder()
        bare = replace(unit, objtool=())
        objects = [folder / name for name in ("original.o", "patched.o")]
        try:
            for out, place in zip(objects, (self._plain, self._patched)):
                kbuild.compile_unit(self._tree, bare, out, place)
        except RefusedError:
            return False
        return objects[0].read_bytes() == objects[1].read_bytes()

    def _changed(self, unit: kbuild.Unit, texts: Callable[[], _Texts]) -> Outcome:
        diff, refusals = self._guarded(unit, *(self._sectioned(unit, place) for place in (self._plain, self._patched)))
        if diff is not None:
            diff.types = layouts.changed(*texts())
        return diff, refusals

    def _preprocessed(self, unit: kbuild.Unit) -> _Texts:
        plain, patched = (kbuild.preprocessed(self._tree, unit, place) for place in (self._plain, self._patched))
        return plain, patched

    def _guarded(self, unit: kbuild.Unit, make_original: _Make, make_patched: _Make) -> Outcome:
        try:
            stem = self._new_folder() / Path(unit.source).stem
            return self._compare(unit, stem, functools.partial(self._diff, unit, stem, make_original, make_patched))
        except RefusedError as error:
            return None, error.refusals

    def _new_folder(self) -> Path:
        folder = self.folder / str(next(self._numbers))
        folder.mkdir()
        return folder

    def _compare(self, unit: kbuild.Unit, stem: Path, differ: Callable[[_Lengths], ObjectDiff | None]) -> Outcome:
        diff = differ(None)
        if diff is not None and diff.cramped:
            diff = differ(_lengths(_original(stem)))
        if diff is None:
            return None, []
        gone = [each.function for each in diff.gone]
        if not diff.changed and not gone:
            return diff, diff.refusals
        shipped, image = stem.with_name(f"{stem.name}.shipped.o"), self._image(unit.object)
        kbuild.compile_unit(self._tree, unit, shipped, self._plain)
        diff.originals = originals(shipped, [changed.name for changed in (*diff.changed, *gone)])
        differing = {refusal.function: refusal.reason for refusal in match.compare(shipped, image, diff.context, gone)}
        diff.gone = [replace(each, why_not=each.why_not or differing.get(each.function.name)) for each in diff.gone]
        return diff, diff.refusals + match.compare(shipped, image, diff.context, diff.changed)

    def _diff(
        self, unit: kbuild.Unit, stem: Path, make_original: _Make, make_patched: _Make, lengths: _Lengths
    ) -> ObjectDiff | None:
        """What differs with the patch, if anything; with *lengths* if static branches are to be long."""
        original, patched, roomy = _original(stem), stem.with_name(f"{stem.name}.patched.o"), lengths is not None
        make_patched(patched, roomy)
        make_original(original, roomy)
        if original.read_bytes() == patched.read_bytes():
            return None
        return diff_objects(original, patched, replace(self._context(unit), lengths=lengths))

    def _sectioned(self, unit: kbuild.Unit, place: Path) -> _Make:
        def make(out: Path, roomy: bool) -> None:
            before = static_branch.ROOM if roomy else None
            kbuild.compile_unit(self._tree, unit, out, place, sectioned=True, before=before)

        return make

    def _nothing(self, unit: kbuild.Unit) -> _Make:
        return lambda out, _roomy: kbuild.compile_nothing(self._tree, unit, out, self._plain)


def _original(stem: Path) -> Path:
    """Where the object file without the patch is made."""
    return stem.with_name(f"{stem.name}.original.o")


def _lengths(original: Path) -> dict[str, int]:
    """How long its functions are, in bytes."""
    return {symbol.name: symbol.size for symbol in elf.read(original).symbols if symbol.type == elf.STT_FUNC}


def _why_fixed(unit: kbuild.Unit) -> str:
    if unit.object == makefiles.VDSO:
        return "it is the vDSO's, which runs in processes and is mapped into them already"
    if unit.source in makefiles.NUMBERS:
        return "the build makes numbers of it by which assembly goes, offsets in structs, and which stay"
    return "it is assembly, which has no call to the function tracer to redirect"
