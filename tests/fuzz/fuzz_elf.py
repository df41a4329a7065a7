# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Damaged object files: whatever their bytes are, the answer is a difference, a refusal or an error that names them.

libFuzzer damages objects that scripts/fuzz compiled. A traceback, a second's silence on a file of some kilobytes or
a gigabyte of memory ends the run, and leaves the file behind.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["ansible_collections"]):
    from ansible_collections.kpatch.fleet.plugins.module_utils.build import btf, objdiff
    from ansible_collections.kpatch.fleet.plugins.module_utils.build import elf as e
    from ansible_collections.kpatch.fleet.plugins.module_utils.build.diff import diff_parsed
    from ansible_collections.kpatch.fleet.plugins.module_utils.build.elfwrite import image
    from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import BuildError, ObjectContext
    from ansible_collections.kpatch.fleet.plugins.module_utils.build.symtab import SymbolTable

NAME = Path("damaged.o")
CONTEXT = ObjectContext("damaged.c", "vmlinux", {}, SymbolTable(b"", [], []), SymbolTable(b"", [], []), lines_move=True)


class Damage:
    """What is done with each damaged file; *good* is one that is not."""

    def __init__(self, good: bytes) -> None:
        self._good = good

    def __call__(self, data: bytes) -> None:
        """Read it, write it again, compare it both ways."""
        try:
            found = e.parse(data, NAME)
            image(found)
            for pair in ((data, self._good), (self._good, data)):
                original, patched = (e.parse(each, NAME) for each in pair)
                objdiff.as_text(objdiff.as_data(diff_parsed(original, patched, CONTEXT)))
        except BuildError as error:
            self.check(error)
        self.types(data)

    def check(self, error: BuildError) -> None:
        """An error has to say something."""
        if not str(error):
            raise AssertionError("an error without a word")

    def types(self, data: bytes) -> None:
        """The same bytes taken for a .BTF section."""
        try:
            btf.Types(memoryview(data), str(NAME)).sizes(["bug_entry"])
        except BuildError as error:
            self.check(error)


def main() -> None:
    """The first argument is the good file, the others are libFuzzer's."""
    good = Path(sys.argv.pop(1)).read_bytes()
    atheris.Setup(sys.argv, Damage(good))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
