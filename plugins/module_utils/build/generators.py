# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The programs that write C while a kernel is built, and that its packages lack: made by a real ``make prepare``.

It runs in a copy, and only programs are taken from there: what else it generates it would generate otherwise than
the distribution's build did (the release, for one), and the prepared tree has all of it.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Callable

from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import BuildError
from ansible_collections.kpatch.fleet.plugins.module_utils.build.tree import Tree

# "No rule to make target 'crypto/asymmetric_keys/x509.asn1.h', needed by …": the rule wants scripts/asn1_compiler.
_LACKING = re.compile(r"No rule to make target '[^']+', needed by ")
# make: flex: No such file or directory; fatal error: openssl/opensslv.h: No such file or directory
_WHY = re.compile(r"not found|No such file|error:")
_MADE = ".generators"
_FOLDERS = ("scripts", "tools", "certs", "usr")
_TOLD = 3
_ELF = b"\x7fELF"


class PrepareError(BuildError):
    """The builder lacks what the kernel's build needs; no source patch is to blame."""


def lacking(said: str) -> bool:
    """Whether make stopped because a program is not there that a source has to be made with."""
    return _LACKING.search(said) is not None


def add(tree: Tree, prepare: Callable[[Tree, Path], None], say: Callable[[str], None]) -> bool:
    """Add the programs to the prepared tree; False if they have been added before. *prepare* works on a copy of it."""
    if (tree.objects / _MADE).exists():
        return False
    say(f"{tree.release}: its packages lack a program that generates sources; running 'make prepare' for it")
    with tempfile.TemporaryDirectory(dir=tree.root.parent, prefix=f".{tree.root.name}.") as scratch:
        copy = Path(scratch) / "objects"
        shutil.copytree(tree.objects, copy, symlinks=True)
        try:
            prepare(tree, copy)
        except BuildError as error:
            raise PrepareError(
                f"kernel {tree.release}: a program that writes sources can't be made, 'make prepare' failed: "
                f"{_why(error)}; install what it needs on the builder, as role builder does"
            ) from error
        for part in _FOLDERS:
            _take(copy / part, tree.objects / part)
    (tree.objects / _MADE).touch()
    return True


def _why(error: BuildError) -> str:
    """The lines that tell it: those of make's other jobs come after them."""
    told = [line.strip() for line in error.said.splitlines() if _WHY.search(line)]
    return "; ".join(told[:_TOLD]) or str(error)


def _take(made: Path, wanted: Path) -> None:
    """Copy the programs below *made* that are not below *wanted*."""
    for path in made.rglob("*"):
        copy = wanted / path.relative_to(made)
        if _is_program(path) and not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, copy)


def _is_program(path: Path) -> bool:
    if not path.is_file() or path.suffix in (".o", ".a", ".so") or not os.access(path, os.X_OK):
        return False
    with path.open("rb") as stream:
        return stream.read(len(_ELF)) == _ELF
