# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One unit, compiled without and with the source patch, and compared: with each other, and with what was shipped."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Optional

from ansible_collections.kpatch.fleet.plugins.module_utils.build import kbuild, match
from ansible_collections.kpatch.fleet.plugins.module_utils.build.diff import diff_objects
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import (
    ObjectContext,
    ObjectDiff,
    Refusal,
    RefusedError,
)
from ansible_collections.kpatch.fleet.plugins.module_utils.build.originals import originals
from ansible_collections.kpatch.fleet.plugins.module_utils.build.tree import Tree

Outcome = tuple[Optional[ObjectDiff], list[Refusal]]  # no diff: nothing in the object changed


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

    def including(self, unit: kbuild.Unit) -> Outcome:
        """A unit that may include what the patch changes: most turn out to have nothing of it."""
        try:
            before = kbuild.preprocessed(self._tree, unit, self._plain)
            if before == kbuild.preprocessed(self._tree, unit, self._patched):
                return None, []
        except RefusedError as error:
            return None, error.refusals
        return self.changed(unit)

    def changed(self, unit: kbuild.Unit) -> Outcome:
        """A unit that the patch changes."""
        return self._guarded(unit, lambda out: kbuild.compile_unit(self._tree, unit, out, self._plain, sectioned=True))

    def added(self, unit: kbuild.Unit) -> Outcome:
        """A unit that the patch adds: all of it is new."""
        return self._guarded(unit, lambda out: kbuild.compile_nothing(self._tree, unit, out, self._plain))

    def _guarded(self, unit: kbuild.Unit, make_original: Callable[[Path], None]) -> Outcome:
        folder = self.folder / str(next(self._numbers))
        folder.mkdir()
        try:
            return self._compare(unit, folder / Path(unit.source).stem, make_original)
        except RefusedError as error:
            return None, error.refusals

    def _compare(self, unit: kbuild.Unit, stem: Path, make_original: Callable[[Path], None]) -> Outcome:
        original, patched, shipped = (stem.with_name(f"{stem.name}.{kind}.o") for kind in _KINDS)
        kbuild.compile_unit(self._tree, unit, patched, self._patched, sectioned=True)
        make_original(original)
        if original.read_bytes() == patched.read_bytes():
            return None, []
        diff = diff_objects(original, patched, self._context(unit))
        if not diff.changed:
            return diff, diff.refusals
        kbuild.compile_unit(self._tree, unit, shipped, self._plain)
        diff.originals = originals(shipped, [changed.name for changed in diff.changed])
        return diff, diff.refusals + match.compare(shipped, self._image(unit.object), diff)


_KINDS = ("original", "patched", "shipped")
