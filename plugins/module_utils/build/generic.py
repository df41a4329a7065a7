# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernels that are no Debian package's: other distributions' and own builds, by the paths of their parts.

The tree is copied and configured anew; what a kernel's headers package would carry is made by ``make prepare``.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Callable

from ansible_collections.kpatch.fleet.plugins.module_utils.build import toolchain
from ansible_collections.kpatch.fleet.plugins.module_utils.build.config import read_config
from ansible_collections.kpatch.fleet.plugins.module_utils.build.identity import Identity, KernelSource
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import BuildError
from ansible_collections.kpatch.fleet.plugins.module_utils.build.run import Arg, run, workers

# "# Linux/x86 6.1.192 Kernel Configuration", "# Linux/x86_64 5.14.0-362.el9.x86_64 Kernel Configuration"
_CONFIG_OF = re.compile(r"^# Linux/\S+ ([0-9]+\.[0-9]+\.[0-9]+)\S* Kernel Configuration", re.MULTILINE)
_MAKEFILE = re.compile(r"^(VERSION|PATCHLEVEL|SUBLEVEL) = ([0-9]+)$", re.MULTILINE)
_BANNER = re.compile(rb"Linux version (\S+) \([^\n\0]*")
# What shows that a tree was built in: kbuild itself refuses to build such a one elsewhere (outputmakefile).
_BUILT = (".config", "include/config", "include/generated", "arch/x86/include/generated")
# Settings that say what the builder has beside the C compiler, and that no object of C depends on.
_OF_THE_BUILDER = re.compile(r"CONFIG_(RUSTC?_|BINDGEN_|PAHOLE_VERSION$|LLD_VERSION$)")
# Kconfig asks it for its version, on which settings depend (DEBUG_INFO_BTF_MODULES); nothing is made with it here.
_PAHOLE = "#!/bin/sh\necho v{}.{}\n"
_PARTS = ("include", "arch", "scripts", "tools")
_MANY = 10


class Given:
    """The parts of *kernel* that an operator names by path."""

    mend = "give the vmlinux, configuration, Module.symvers and modules of the very build that the hosts run"

    def __init__(self, kernel: Identity, given: KernelSource) -> None:
        self._kernel, self._given = kernel, given
        self._tools = toolchain.Toolchain(given.toolchain)

    def fetch(self, say: Callable[[str], None]) -> None:
        """Nothing is fetched: what is given is looked at."""
        say(f"{self._kernel.release}: looking at the kernel's parts in {self._given.tree}")
        problems = _missing(self._given)
        if not problems:
            problems = [*self._of_another_version(), *self._of_another_kernel()]
        if problems:
            raise BuildError(
                f"kernel {self._kernel.release}: can't be built for from what is given of it: {'; '.join(problems)}"
            )
        compiler = self._compiler()
        toolchain.check(self._tools, compiler, self._kernel.release)

    def vmlinux(self, destination: Path) -> None:
        """A copy, without the debug information that makes up most of it."""
        run(["objcopy", "--strip-debug", "--keep-file-symbols", self._given.vmlinux, destination])

    def modules(self, destination: Path) -> None:
        """Copies of all modules, as they are packed."""
        destination.mkdir()
        given = self._given.modules
        if given is None:
            return
        for path in given.rglob("*.ko*"):
            copy = destination / path.relative_to(given)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)

    def source(self, source: Path, objects: Path) -> str:
        """A copy of the tree, and what `make prepare` makes of it; told by its contents."""
        self._copy(source)
        self._prepare(source, objects)
        return f"tree-{_digest(source)[:16]}"

    def _copy(self, destination: Path) -> None:
        """What is done to the tree later doesn't matter."""
        tree = self._given.tree.resolve()

        def left_out(directory: str, names: list[str]) -> list[str]:
            below = PurePosixPath(os.path.relpath(directory, tree))
            if below == PurePosixPath("."):
                return [".git"]
            elsewhere = below.parts[0] == "arch" and below.parts[1:2] not in ((), ("x86",))
            if not elsewhere and below.parts[0] != "Documentation":
                return []
            # Kconfig reads those of all architectures.
            return [name for name in names if not name.startswith("Kconfig") and not Path(directory, name).is_dir()]

        shutil.copytree(tree, destination, symlinks=True, ignore=left_out)

    def _prepare(self, source: Path, destination: Path) -> None:
        """Run `make prepare`, with the given configuration and release."""
        prepared = destination.with_suffix(".prepared")
        prepared.mkdir()
        shutil.copyfile(self._given.config, prepared / ".config")
        with tempfile.TemporaryDirectory(prefix="kpatch-pahole-") as scratch:
            command = self._make(source, prepared, Path(scratch))
            self._tools.run([*command, "olddefconfig"])
            self._check_settings(read_config(prepared / ".config"))
            self._tools.run([*command, f"-j{workers()}", "prepare", "modules_prepare"])
        destination.mkdir()
        for part in _PARTS:
            (prepared / part).rename(destination / part)
        shutil.rmtree(prepared)
        (destination / "include/config/kernel.release").write_text(f"{self._kernel.release}\n", encoding="ascii")
        shutil.copyfile(self._given.config, destination / ".config")
        shutil.copyfile(self._given.symvers, destination / "Module.symvers")

    def _make(self, source: Path, prepared: Path, scratch: Path) -> list[Arg]:
        version = read_config(self._given.config).get("CONFIG_PAHOLE_VERSION", "0").zfill(3)
        pahole = scratch / "pahole"
        pahole.write_text(_PAHOLE.format(version[:-2], version[-2:]), encoding="ascii")
        pahole.chmod(0o755)
        cc = self._compiler().split()[0]
        settings = [f"O={prepared}", "ARCH=x86", f"CC={cc}", f"HOSTCC={cc}", f"PAHOLE={pahole}"]
        return ["make", "-s", "-C", source, *settings, f"KERNELRELEASE={self._kernel.release}"]

    def _compiler(self) -> str:
        return read_config(self._given.config)["CONFIG_CC_VERSION_TEXT"]

    def _of_another_version(self) -> list[str]:
        """What speaks against tree, configuration and kernel being of one version."""
        numbers = dict(_MAKEFILE.findall((self._given.tree / "Makefile").read_text(encoding="utf-8")))
        tree = ".".join(numbers.get(key, "?") for key in ("VERSION", "PATCHLEVEL", "SUBLEVEL"))
        problems = []
        # A release need not have the third number: 5.15.0-91-generic is made of 5.15.131.
        if not re.match(re.escape(tree.rpartition(".")[0]) + r"\b", self._kernel.release):
            problems.append(f"{self._given.tree} is the source of {tree}; give the tree that the kernel was built from")
        header = _CONFIG_OF.search(self._given.config.read_text(encoding="utf-8"))
        if header and header[1] != tree:
            problems.append(f"{self._given.config} is a configuration of {header[1]}, but the tree is of {tree}")
        return problems

    def _of_another_kernel(self) -> list[str]:
        """What speaks against the configuration being that of vmlinux."""
        config, banner = self._given.config, _BANNER.search(self._given.vmlinux.read_bytes())
        if banner is None:
            return [f"{self._given.vmlinux} is no vmlinux: it has no banner; a vmlinuz is packed and has no symbols"]
        if banner[1].decode("utf-8", "replace") != self._kernel.release:
            return [f"{self._given.vmlinux} is of kernel {banner[1].decode('utf-8', 'replace')}; {self.mend}"]
        compiler = read_config(config).get("CONFIG_CC_VERSION_TEXT")
        if not compiler:
            return [f"{config} names no compiler (CONFIG_CC_VERSION_TEXT): give the one that the kernel was built with"]
        if compiler.encode() not in banner[0]:
            return [
                f"{config} is of a build with '{compiler}', which vmlinux doesn't name as its compiler; {self.mend}"
            ]
        return []

    def _check_settings(self, found: Mapping[str, str]) -> None:
        """Kconfig drops what the tree, or the programs here, have not: nothing compiled so would be what runs."""
        given = read_config(self._given.config)
        changed = [
            f"{key} is {given.get(key, 'not set')}, would be {found.get(key, 'not set')}"
            for key in sorted({**given, **found})
            if given.get(key) != found.get(key) and not _OF_THE_BUILDER.match(key)
        ]
        if changed:
            more = f" and {len(changed) - _MANY} more" if len(changed) > _MANY else ""
            raise BuildError(
                f"kernel {self._kernel.release}: {self._given.config} doesn't hold in {self._given.tree} with the "
                f"programs here: {'; '.join(changed[:_MANY])}{more}. Give the configuration and the tree of one build, "
                "and the binutils and compiler that made it ('toolchain')"
            )


def _digest(tree: Path) -> str:
    """Of the contents: the same tree at another path is the same."""
    digest = hashlib.sha256()
    for path in sorted(path for path in tree.rglob("*") if path.is_file() and not path.is_symlink()):
        digest.update(f"{path.relative_to(tree)}\0{path.stat().st_size}\0".encode("utf-8", "surrogateescape"))
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _missing(given: KernelSource) -> list[str]:
    """What is not there of what is given, each with its name."""
    problems = [
        f"{key}: there is no file {path} on the builder"
        for key, path in (("config", given.config), ("symvers", given.symvers), ("vmlinux", given.vmlinux))
        if not path.is_file()
    ]
    if not all((given.tree / part).exists() for part in ("Makefile", "Kconfig", "kernel", "arch/x86")):
        problems.append(f"tree: {given.tree} is no kernel's source (Makefile, Kconfig, kernel/ and arch/x86/ are)")
    problems += [
        f"tree: {given.tree} was built in: it has {part}; give a clean copy ('make mrproper' makes one so)"
        for part in [part for part in _BUILT if (given.tree / part).exists()][:1]
    ]
    if given.modules is not None and next(given.modules.rglob("*.ko*"), None) is None:
        problems.append(f"modules: there are no modules below {given.modules}")
    if given.toolchain is not None and not all((given.toolchain / part).is_dir() for part in ("usr", "etc")):
        problems.append(f"toolchain: {given.toolchain} is no root of a system: it has no usr/ or no etc/")
    return problems
