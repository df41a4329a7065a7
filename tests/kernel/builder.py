# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The builder, set to work for the kernel that runs on one machine."""

from __future__ import annotations

import base64
import difflib
import shutil
from pathlib import Path

from ansible_collections.kpatch.fleet.plugins.module_utils.build import core_module, kbuild, patch_module
from ansible_collections.kpatch.fleet.plugins.module_utils.build.artifact import Result
from ansible_collections.kpatch.fleet.plugins.module_utils.build.identity import Identity, KernelSource
from ansible_collections.kpatch.fleet.plugins.module_utils.build.module_signature import ModuleSigner
from ansible_collections.kpatch.fleet.plugins.module_utils.build.run import run
from ansible_collections.kpatch.fleet.plugins.module_utils.build.tree import Tree, ensure, locked
from ansible_collections.kpatch.fleet.plugins.module_utils.host import elf
from ansible_collections.kpatch.fleet.plugins.plugin_utils.build import patch_sources, read_sources
from host import Host

KMOD = Path(__file__).parents[2] / "kmod"


class Builder:
    """Builds for one kernel into *store*."""

    def __init__(self, kernel: Identity, cache: Path, store: Path) -> None:
        self.kernel = kernel
        self.cache = cache
        self.store = store
        with locked(cache, kernel.release, print):
            self.tree: Tree = ensure(cache, kernel, print)

    def core(self, signer: ModuleSigner | None = None) -> Result:
        """The core module."""
        sources = read_sources(KMOD / "core")
        request = core_module.Request(sources, self.kernel, self.cache, self.store, signer)
        return core_module.build(request, False, print)

    def patch(
        self,
        name: str,
        diff: str,
        switch: str = "kernel",
        backend: str = "kpatch",
        signer: ModuleSigner | None = None,
        leave: str = "patched_set",
        replace: bool = False,
    ) -> Result:
        """A patch module."""
        sources = patch_sources(KMOD)
        consistency = {"leave": leave, "switch": switch}
        where = (self.kernel, self.cache, self.store)
        request = patch_module.Request(
            name, diff, consistency, sources, *where, backend=backend, replace=replace, signer=signer
        )
        return patch_module.build(request, False, print)

    def diff(self, file: str, old: str, new: str) -> str:
        """The source patch that replaces the one occurrence of *old* in *file*."""
        return self.changes(file, {old: new})

    def changes(self, file: str, replacements: dict[str, str]) -> str:
        """The source patch that makes several such replacements in *file*."""
        before = after = (self.tree.source / file).read_text(encoding="utf-8")
        for old, new in replacements.items():
            assert before.count(old) == 1, f"{file}: {old!r} is there {before.count(old)} times"
            after = after.replace(old, new)
        old_lines, new_lines = before.splitlines(keepends=True), after.splitlines(keepends=True)
        return "".join(difflib.unified_diff(old_lines, new_lines, f"a/{file}", f"b/{file}"))

    def removal(self, file: str) -> str:
        """The source patch that removes *file*."""
        lines = (self.tree.source / file).read_text(encoding="utf-8").splitlines(keepends=True)
        return "".join(difflib.unified_diff(lines, [], f"a/{file}", "/dev/null"))

    def modules(self, scratch: Path) -> list[Path]:
        """The modules of kmod/core and kmod/tests, compiled in *scratch*, without debug data."""
        for part, of in (("core", "core"), ("tests", "tests"), ("faults", "core")):
            shutil.copytree(KMOD / of, scratch / part)
        self._compile(scratch / "core")
        self._compile(scratch / "tests", f"KBUILD_EXTRA_SYMBOLS={scratch}/core/Module.symvers")
        self._compile(scratch / "faults", "KPATCH_FAULTS=y")
        (scratch / "faults/kpatch.ko").rename(scratch / "faults/kpatch_faults.ko")
        built = [file for part in ("core", "tests", "faults") for file in scratch.glob(f"{part}/*.ko")]
        run(["strip", "--strip-debug", *built])
        return built

    def _compile(self, directory: Path, *variables: str) -> None:
        with locked(self.cache, self.kernel.release, print):
            kbuild.external_modules(self.tree, directory, *variables)


class DebugBuilder(Builder):
    """Compiles the modules for the debug kernel in *directory*, which is no package's; it builds no patches."""

    def __init__(self, directory: Path) -> None:
        self.objects = directory / "objects"

    def _compile(self, directory: Path, *variables: str) -> None:
        # UBSAN watches our code alone; the rest of the kernel would only be slower, emulated as it is.
        watched = ("UBSAN_SANITIZE=y", *variables)
        run(["make", "-s", "-C", self.objects, f"M={directory}", *watched, "modules"])


def identify(host: Host) -> Identity:
    """The kernel that runs on *host*."""
    release, version = host.run("uname -r; uname -v").splitlines()
    notes = base64.b64decode(host.run("base64 /sys/kernel/notes"))
    return Identity(release, version, str(elf.build_id(notes)))


def own_source(directory: Path, release: str) -> KernelSource:
    """What an operator would name of the kernel that scripts/own-kernel has built in *directory*."""
    objects = directory / "objects"
    parts = (objects / ".config", objects / "Module.symvers", objects / "vmlinux")
    return KernelSource(directory / "source", *parts, directory / "modules/lib/modules" / release)
