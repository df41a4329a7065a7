# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""kpatch-build as Debian's trixie has it, in a root of its own, for a kernel of bookworm's.

The root has bookworm's compiler, which kpatch-build wants to be the kernel's own. The kernel's configuration is as
shipped, but for the name of the key that signs modules: Debian's is not in the source, so kbuild makes one. The source
is told the release that the kernel has, which Debian's packaging tells it otherwise. kpatch-build itself leaves BTF
out. ccache is before the compiler, where kpatch-build looks for it on Debian.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from ansible_collections.kpatch.fleet.plugins.module_utils.archive import open_archive
from ansible_collections.kpatch.fleet.plugins.module_utils.build import debian
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import VMLINUX
from ansible_collections.kpatch.fleet.plugins.module_utils.build.run import clean_environment, run, workers
from ansible_collections.kpatch.fleet.plugins.module_utils.build.toolchain import Toolchain
from ansible_collections.kpatch.fleet.plugins.module_utils.build.tree import Tree
from measure import Taken, told, watched

SUITE, PACKAGE = "trixie", "kpatch-build"
# The compiler's packages, which are all of one version.
_COMPILER = ("{name}", "cpp-{number}", "{name}-base", "lib{name}-dev")
# What building a kernel takes beyond what kpatch-build depends on; lsdiff, which it calls.
_PACKAGES = ("ccache", "libc6-dev", "make", "patch", "patchutils", "perl", "procps", "xz-utils", "zlib1g-dev")
_BANNER = re.compile(r"(?P<name>gcc-(?P<number>[0-9]+)) \(Debian (?P<version>[^) ]+)\) ")
_PATH = "/usr/lib/ccache:/usr/sbin:/usr/bin:/sbin:/bin"
# What it says when one of its stages begins.
STAGES = {
    "Testing patch file(s)": "test the patch",
    "Reading special section data": "read the special sections' sizes",
    "Building original source": "build the original",
    "Building patched source": "build the patched",
    "Extracting new and modified ELF sections": "compare the objects",
    "Building patch module": "link the module",
}
# What it changes in the source for a while.
_CHANGED = ("scripts/link-vmlinux.sh", "scripts/Makefile.modfinal", "Makefile")


class Pair(NamedTuple):
    """An object file without and with the patch."""

    name: str  # "fs/proc/meminfo.o"
    object: str  # "vmlinux", or a module's name
    original: Path
    patched: Path


class Peer:
    """kpatch-build for the kernel of *tree*, which is used for its packages' sake only; *home* keeps what is made."""

    def __init__(self, cache: Path, home: Path, tree: Tree) -> None:
        self.cache, self.home, self.tree = cache, home, tree
        banner = _BANNER.match(tree.compiler)
        if banner is None or debian.suite_of(tree.package) != "bookworm":
            raise SystemExit(f"kernel {tree.release}: kpatch-build is compared on bookworm's own kernels (6.1)")
        self._compiler = [f"{name.format(**banner.groupdict())}={banner['version']}" for name in _COMPILER]
        self._gcc = banner["name"]
        self._archive = open_archive(cache, SUITE)
        self.version = self._archive.candidate(PACKAGE)
        self.tools = Toolchain(home.parent / f"{SUITE}-{PACKAGE}_{self.version}-{self._gcc}_{banner['version']}")
        self.source, self.vmlinux = home / "source", home / "vmlinux"

    def make_root(self) -> None:
        """Make the root, unless it is there."""
        root = self.tools.root
        assert root is not None
        if root.is_dir():
            return
        told(f"making a root with {PACKAGE} {self.version} of Debian's {SUITE}")
        work = root.with_name(f".{root.name}")
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        settings, sources = work / "apt.conf", work / "sources.list"
        settings.touch(mode=0o600)
        settings.write_text(self._archive.settings(), encoding="utf-8")
        bookworm = open_archive(self.cache, debian.suite_of(self.tree.package))
        sources.write_text(self._archive.sources() + bookworm.sources(), encoding="utf-8")
        include = ",".join([f"{PACKAGE}={self.version}", *self._compiler, *_PACKAGES])
        links = f'ln -s {self._gcc} "$1/usr/bin/gcc"; ln -sf ../../bin/ccache "$1/usr/lib/ccache/gcc"'
        hooks = [f"--customize-hook={links}", '--customize-hook=rm -rf "$1/usr/share/doc" "$1/usr/share/locale"']
        options = ["--variant=minbase", f"--aptopt={settings}", f"--include={include}", *hooks]
        run(["mmdebstrap", *options, SUITE, work / "root", sources])
        (work / "root").rename(root)
        shutil.rmtree(work)

    def unpack(self, heard: Callable[[str], None], looked: Callable[[Taken], None]) -> Taken:
        """The source and the kernel with its debug information, out of their packages, begun anew."""
        for place in (self.source, self.home / "kpatch", self.home / "ccache"):
            shutil.rmtree(place, ignore_errors=True)
        self.source.mkdir(parents=True)
        downloads, release = self.cache / "downloads", self.tree.release
        series = ".".join(self.tree.package.split(".")[:2])
        source = downloads / f"linux-source-{series}_{self.tree.package}_all.deb"
        symbols = downloads / f"linux-image-{release}-dbg_{self.tree.package}_amd64.deb"
        script = f"""set -e -o pipefail
        dpkg-deb --fsys-tarfile {source} | tar -xO ./usr/src/linux-source-{series}.tar.xz |
            tar -xJ -C {self.source} --strip-components=1
        dpkg-deb --fsys-tarfile {symbols} | tar -xO ./usr/lib/debug/boot/vmlinux-{release} > {self.vmlinux}"""
        taken = watched(["bash", "-c", script], heard, looked=looked)
        config = (self.tree.objects / ".config").read_text(encoding="utf-8")
        config = re.sub("^(CONFIG_MODULE_SIG_KEY)=.*$", r'\1="certs/signing_key.pem"', config, flags=re.MULTILINE)
        (self.source / ".config").write_text(config, encoding="utf-8")
        makefile = (self.source / "Makefile").read_text(encoding="utf-8")
        makefile = re.sub("^KERNELVERSION = .*$", f"KERNELVERSION = {release}", makefile, flags=re.MULTILINE)
        (self.source / "Makefile").write_text(makefile, encoding="utf-8")
        for path in _CHANGED:
            (self.home / "as-unpacked" / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(self.source / path, self.home / "as-unpacked" / path)
        return taken

    def build(self, patch: Path, heard: Callable[[str], None], looked: Callable[[Taken], None]) -> Taken:
        """Build a patch module; what a killed run has left in the source is taken back before.

        It can't build every patch: of what it says then, the lines with ERROR tell why.
        """
        self._take_back()
        out = self.home / "modules"
        out.mkdir(exist_ok=True)
        # Twice -d: the objects stay, and what make says is told.
        options: list[str | Path] = ["-d", "-d", "-j", str(workers()), "-s", self.source, "-v", self.vmlinux, "-o", out]
        command = [PACKAGE, *options, "-n", patch.stem, patch]
        return watched(list(self.tools.command(command)), heard, self.environment(), looked, may_fail=True)

    def environment(self) -> dict[str, str]:
        """What it runs with."""
        own = {"HOME": self.home, "CACHEDIR": self.home / "kpatch", "CCACHE_DIR": self.home / "ccache"}
        return {**clean_environment(), "PATH": _PATH, **{name: str(path) for name, path in own.items()}}

    def _take_back(self) -> None:
        """Put back each file that differs from what was unpacked: what its own clean-up does unless it is killed."""
        kept = self.home / "as-unpacked"
        for path in kept.rglob("*"):
            place = self.source / path.relative_to(kept)
            if path.is_file() and path.read_bytes() != place.read_bytes():
                shutil.copy(path, place)

    def keep(self, paths: list[str]) -> None:
        """Keep these files of the source as they are before a patch changes them."""
        for path in paths:
            place = self.home / "as-unpacked" / path
            if not place.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(self.source / path, place)

    def pairs(self, place: Path) -> Iterator[Pair]:
        """The objects that the last build has compared, moved to *place*."""
        work = self.home / "kpatch/tmp"
        for original in sorted((work / "orig").rglob("*.o")):
            name = str(original.relative_to(work / "orig"))
            kept = place / name
            kept.mkdir(parents=True, exist_ok=True)
            shutil.copy(original, kept / "original.o")
            shutil.copy(work / "patched" / name, kept / "patched.o")
            yield Pair(name, VMLINUX, kept / "original.o", kept / "patched.o")

    def create_diff_object(self, pair: Pair, symtab: Path, out: Path) -> list[str]:
        """The command for one pair of objects, as kpatch-build calls it; without bwrap, which would cost time too."""
        assert self.tools.root is not None
        usr = self.tools.root / "usr"
        libraries = usr / "lib/x86_64-linux-gnu"
        program = [
            libraries / "ld-linux-x86-64.so.2",
            "--library-path",
            libraries,
            usr / "lib/kpatch/create-diff-object",
        ]
        what = [pair.original, pair.patched, pair.object, symtab, self.tree.symvers, "bench", out]
        return [str(word) for word in (*program, "--klp-arch", *what)]


def marks(line: str, begun: list[tuple[str, float]]) -> None:
    """Note a stage if *line* tells of its beginning."""
    for said, stage in STAGES.items():
        if line.startswith(said):
            begun.append((stage, time.monotonic()))
