# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files a kernel is built of, and what each is linked into: its makefiles, evaluated with its configuration.

Kbuild itself tells this by building. Its makefiles are lists, though (Documentation/kbuild/makefiles.rst): obj-y and
obj-m name objects and directories, foo-y and foo-objs the parts of foo.o. GNU make evaluates each; nothing is made.
"""

from __future__ import annotations

import json
import posixpath
import tempfile
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import VMLINUX, BuildError
from ansible_collections.kpatch.fleet.plugins.module_utils.build.run import run, workers
from ansible_collections.kpatch.fleet.plugins.module_utils.build.symvers import module_of
from ansible_collections.kpatch.fleet.plugins.module_utils.build.tree import Say, Tree, remembered

# What the top makefile and arch/x86/Makefile descend into; from 6.1 on most of it is listed in the top Kbuild.
_ROOTS = (
    *("init", "usr", "certs", "kernel", "mm", "fs", "ipc", "security", "crypto", "block", "io_uring", "rust"),
    *("drivers", "sound", "samples", "net", "lib", "virt", "arch/x86", "arch/x86/crypto", "arch/x86/lib"),
    *("arch/x86/power", "arch/x86/video", "arch/x86/pci"),
)

# The first rule has no recipe: whatever else the makefile defines is not made. The second lets go what only other
# architectures include, whose part of the source is not unpacked: fs/hostfs/Makefile of 6.12.
_DRIVER = """\
nothing: ;
$(srctree)/arch/%: ;
include include/config/auto.conf
src := $(obj)
include $(firstword $(wildcard $(srctree)/$(obj)/Kbuild) $(srctree)/$(obj)/Makefile)
parts = $($(1:.o=-y)) $($(1:.o=-objs)) $(if $(2),$($(1:.o=-m)))
list = $(foreach object,$(1),$(info $(2) $(object) $(if $(filter %.o,$(object)),$(call parts,$(object),$(3)))))
$(call list,$(obj-y) $(lib-y),y)
$(call list,$(obj-m) $(lib-m),m,m)
$(call list,$(vobjs-y) $(vobjs32-y),vdso)
"""

VDSO = "the vDSO"
# Of these the build makes headers full of numbers, by which assembly goes, and links them into nothing: where members
# of structs are, how many flags a page has. Each with a file that is compiled as it would be: not every kbuild has a
# rule that makes an object of it (5.10).
NUMBERS = {
    "arch/x86/kernel/asm-offsets.c": "init/main.c",
    "arch/x86/kvm/kvm-asm-offsets.c": "arch/x86/kvm/x86.c",
    "arch/x86/hyperv/mshv-asm-offsets.c": "arch/x86/hyperv/hv_init.c",
    "kernel/bounds.c": "init/main.c",
    "kernel/sched/rq-offsets.c": "kernel/sched/core.c",
}

Built = dict[str, list[str]]


def built(tree: Tree, say: Say) -> Built:
    """The C files that the kernel is built of, each with what it is part of: "vmlinux" or modules."""
    return {path: into for path, into in _all(tree, say).items() if not _is_fixed(path, into)}


def fixed(tree: Tree, say: Say) -> Built:
    """The files of which something is made that a patch can't change: assembly, the C of the vDSO, numbers."""
    everything = _all(tree, say)
    found = {path: into for path, into in everything.items() if _is_fixed(path, into)}
    for path, like in NUMBERS.items():
        if like in everything and (tree.source / path).is_file():
            found[path] = everything[like]
    return found


def _is_fixed(path: str, into: list[str]) -> bool:
    return path.endswith(".S") or VDSO in into


def _all(tree: Tree, say: Say) -> Built:
    def evaluate() -> str:
        say(f"{tree.release}: reading the kernel's makefiles")
        return json.dumps(_Makefiles(tree).read(), sort_keys=True)

    found: Built = json.loads(remembered(tree, "sources.json", evaluate))
    return found


class _Makefiles:
    """All makefiles that the configuration leads to."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._driver = Path()
        self._found: dict[str, set[str]] = defaultdict(set)
        self._seen: set[tuple[str, bool]] = set()

    def read(self) -> Built:
        """Directory by directory, each level at once."""
        level = [(root, False) for root in _ROOTS if self._exists(root)]
        with tempfile.TemporaryDirectory(prefix="kpatch-make-") as scratch, ThreadPoolExecutor(workers()) as pool:
            self._driver = Path(scratch, "driver")
            self._driver.write_text(_DRIVER, encoding="ascii")
            while level:
                self._seen.update(level)
                below: list[tuple[str, bool]] = []
                for (directory, modular), lines in zip(level, pool.map(self._evaluate, [each[0] for each in level])):
                    for line in lines:
                        below += self._line(directory, modular, line.split())
                level = sorted({each for each in below if each not in self._seen and self._exists(each[0])})
        return {source: sorted(objects) for source, objects in self._found.items()}

    def _exists(self, directory: str) -> bool:
        return any((self._tree.source / directory / name).is_file() for name in ("Kbuild", "Makefile"))

    def _evaluate(self, directory: str) -> list[str]:
        variables = [f"obj={directory}", f"srctree={self._tree.source}", "SRCARCH=x86", "ARCH=x86", "BITS=64"]
        try:
            said = run(
                ["make", "-rR", "-s", "-I", self._tree.source, "-f", self._driver, *variables], self._tree.objects
            )
        except BuildError as error:
            raise BuildError(
                f"kernel {self._tree.release}: the makefile of {directory} can't be read: {error}"
            ) from error
        return said.splitlines()

    def _line(self, directory: str, modular: bool, words: list[str]) -> list[tuple[str, bool]]:
        """Note one object and its parts; the directories to go on with."""
        kind, entry, *parts = words if len(words) > 1 else ("", "")
        if kind not in ("y", "m", "vdso"):
            return []
        if entry.endswith("/"):
            return [(posixpath.normpath(f"{directory}/{entry}"), modular or kind == "m")]
        # What obj-y lists in a directory that only obj-m leads to is linked into nothing.
        if kind == "y" and modular:
            return []
        into = {"y": VMLINUX, "vdso": VDSO}.get(kind) or module_of(entry.removesuffix(".o"))
        for part in parts or [entry]:
            self._part(directory, part, into)
        return []

    def _part(self, directory: str, part: str, into: str) -> None:
        stem = posixpath.normpath(f"{directory}/{part.removesuffix('.o')}")
        sources = (f"{stem}.c", f"{stem}.S") if part.endswith(".o") else ()
        source = next((each for each in sources if (self._tree.source / each).is_file()), None)
        if source is not None:
            self._found[source].add(into)
