# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian's kernels: from what a running kernel says of itself to the packages that it can be rebuilt from.

The one module that knows which suite and which packages a kernel is from. Nothing is installed: packages are
downloaded into the cache and unpacked from there.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Callable, NamedTuple

from ansible_collections.kpatch.fleet.plugins.module_utils.archive import Archive, ArchiveError, open_archive
from ansible_collections.kpatch.fleet.plugins.module_utils.build.identity import Identity
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import BuildError
from ansible_collections.kpatch.fleet.plugins.module_utils.build.run import Arg, pipe, run

# "#1 SMP PREEMPT_DYNAMIC Debian 6.12.117-1~deb12u1 (2026-11-14)"
_VERSION = re.compile(r"\bDebian (?P<version>(?P<series>[0-9]+\.[0-9]+)\.[0-9A-Za-z.+~-]+) \([0-9-]+\)")
_KBUILD = re.compile(r"\blinux-kbuild-[0-9A-Za-z.+~-]+")
# Which suite a version was built for and with: "6.12.117-1~deb12u1" says so itself.
_REBUILT = re.compile(r"~(?:deb(?P<number>[0-9]+)u[0-9]+)?")
_SUITES = {"11": "bullseye", "12": "bookworm", "13": "trixie"}
_OWN_SERIES = {"5.10": "bullseye", "6.1": "bookworm", "6.12": "trixie"}
_UNRELEASED = "forky"
_OLDEST_UNRELEASED = (7, 0)


class DebianKernel(NamedTuple):
    """One kernel as Debian ships it; every package below has this very version."""

    release: str
    version: str
    series: str

    @property
    def suite(self) -> str:
        """The suite that it is from, whose compiler made it."""
        return suite_of(self.version)

    @property
    def headers(self) -> str:
        """Configuration, generated headers, Module.symvers."""
        return f"linux-headers-{self.release}"

    @property
    def source(self) -> str:
        """The source, Debian's patches applied."""
        return f"linux-source-{self.series}"

    @property
    def image(self) -> str:
        """The kernel."""
        return f"linux-image-{self.release}"

    @property
    def modules(self) -> str:
        """The shipped modules, where they are not in the kernel's package (7.2)."""
        return f"linux-modules-{self.release}"

    @property
    def symbols(self) -> str:
        """vmlinux with its symbols."""
        return f"linux-image-{self.release}-dbg"


def identify(release: str, version: str) -> DebianKernel:
    """Which packages the kernel came from that answers *release* and *version* to uname -r and -v."""
    match = _VERSION.search(version)
    if match is None:
        raise BuildError(
            f"kernel {release}: its version '{version}' names no Debian package: no source is at hand for it; "
            "name its tree, configuration, Module.symvers and vmlinux (kpatch_kernel_sources), or take it out of the "
            "hosts to patch"
        )
    return DebianKernel(release, match["version"], match["series"])


def kbuild_package(depends: str) -> str:
    """The name of the package with kbuild's programs, from the Depends field of the headers package."""
    match = _KBUILD.search(depends)
    if match is None:
        raise BuildError(f"the headers package depends on no linux-kbuild package: {depends!r}")
    return match.group()


def shipped(version: str, flavour: str, archive: Archive) -> DebianKernel:
    """The kernel of *flavour* ("cloud-amd64") that the source package of *version* was built into."""
    pattern = rf"^linux-image-.*-{flavour}-dbg$"
    releases = [name[len("linux-image-") : -len("-dbg")] for name in archive.having(pattern, version)]
    if len(releases) != 1:
        raise BuildError(
            f"Debian's {archive.suite} has {len(releases)} kernels of flavour {flavour} with symbols in version "
            f"{version}; 'apt-cache madison linux-source-<series>' lists the versions that there are"
        )
    return DebianKernel(releases[0], version, ".".join(version.split(".")[:2]))


def suite_of(version: str) -> str:
    """The suite whose archive has the kernel package of *version*."""
    rebuilt = _REBUILT.search(version)
    if rebuilt is not None and rebuilt["number"] in _SUITES:
        return _SUITES[rebuilt["number"]]
    series = ".".join(version.split(".")[:2])
    if rebuilt is None and series in _OWN_SERIES:
        return _OWN_SERIES[series]
    if rebuilt is None and tuple(map(int, series.split("."))) >= _OLDEST_UNRELEASED:
        return _UNRELEASED
    raise BuildError(
        f"kernel package {version}: no suite of Debian is known for it; served are the series {', '.join(_OWN_SERIES)} "
        f"and those of {_UNRELEASED}"
    )


def fetch(name: str, version: str, downloads: Path, archive: Archive) -> Path:
    """The package file *name* of exactly *version*, downloaded unless it is already there."""
    present = _downloaded(name, version, downloads)
    if present is not None:
        return present
    downloads.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=downloads, prefix=".fetch-") as scratch:
        try:
            archive.download(name, version, Path(scratch))
        except ArchiveError as error:
            raise BuildError(str(error)) from error
        for package in Path(scratch).glob("*.deb"):
            package.replace(downloads / package.name)
    present = _downloaded(name, version, downloads)
    if present is None:
        raise BuildError(f"apt-get downloaded no {name}={version}")
    return present


def _downloaded(name: str, version: str, downloads: Path) -> Path | None:
    for architecture in ("amd64", "all"):
        path = downloads / f"{name}_{version.replace(':', '%3a')}_{architecture}.deb"
        if path.is_file():
            return path
    return None


class Packages:
    """Provides a kernel out of the packages that it came from (provider.py)."""

    mend = "the hosts run another build of this release than the archive carries; survey them again"

    def __init__(self, cache: Path, kernel: Identity) -> None:
        self._cache, self._kernel = cache, kernel

    def fetch(self, say: Callable[[str], None]) -> None:
        """Download every package that is not here yet."""
        if self._unpacker.lacks():
            say(f"{self._kernel.release}: downloading the kernel's packages")
        self._unpacker.fetch()

    def vmlinux(self, destination: Path) -> None:
        """Of the symbols package."""
        self._unpacker.vmlinux(destination)

    def modules(self, destination: Path) -> None:
        """Of the kernel's own package."""
        self._unpacker.modules(destination)

    def source(self, source: Path, objects: Path) -> str:
        """Of the source package, and of the headers and kbuild packages; all are of one version."""
        self._unpacker.source(source)
        self._unpacker.objects(objects)
        return self._identified.version

    @property
    def _identified(self) -> DebianKernel:
        return identify(self._kernel.release, self._kernel.version)

    @functools.cached_property
    def _unpacker(self) -> Unpacker:
        kernel = self._identified
        return Unpacker(kernel, self._cache / "downloads", open_archive(self._cache, kernel.suite))


class Unpacker:
    """Takes the parts of one kernel's packages that a build needs."""

    def __init__(self, kernel: DebianKernel, downloads: Path, archive: Archive) -> None:
        self._kernel = kernel
        self._downloads = downloads
        self._archive = archive

    def lacks(self) -> bool:
        """Whether a package has yet to be downloaded."""
        return not (all(map(self._has, self._names())) and self._has(self._kbuild()))

    def fetch(self) -> None:
        """Download every package, so that a missing one is known before anything is unpacked."""
        for name in self._names():
            self._deb(name)
        self._kbuild_deb()

    def source(self, destination: Path) -> None:
        """The kernel's source, without what no object for this machine is made of."""
        name = f"usr/src/{self._kernel.source}.tar.xz"
        tarball = destination.with_suffix(".tar.xz")
        self._members(self._kernel.source, destination.parent, [f"./{name}"])
        (destination.parent / name).replace(tarball)
        shutil.rmtree(destination.parent / "usr")
        destination.mkdir()
        run(["tar", "-xf", tarball, "-C", destination, "--strip-components=1", "--exclude=*/Documentation"])
        tarball.unlink()
        for arch in (destination / "arch").iterdir():
            if arch.is_dir() and arch.name != "x86":
                shutil.rmtree(arch)

    def objects(self, destination: Path) -> None:
        """What kbuild expects in the folder where it puts objects."""
        scratch = destination.with_suffix(".packages")
        run(["dpkg-deb", "-x", self._deb(self._kernel.headers), scratch])
        run(["dpkg-deb", "-x", self._kbuild_deb(), scratch])
        headers = scratch / "usr/src" / self._kernel.headers
        programs = scratch / "usr/lib" / self._kbuild()
        destination.mkdir()
        for part in (".config", "include", "arch", "Module.symvers"):
            (headers / part).rename(destination / part)
        for part in ("scripts", "tools"):
            (programs / part).rename(destination / part)
        shutil.rmtree(scratch)

    def modules(self, destination: Path) -> None:
        """The modules as the kernel loads them, with their symbol tables."""
        scratch = destination.with_suffix(".packages")
        run(["dpkg-deb", "-x", self._deb(self._with_modules()), scratch])
        for prefix in ("lib", "usr/lib"):
            shipped = scratch / prefix / "modules" / self._kernel.release
            if shipped.is_dir():
                shipped.rename(destination)
        shutil.rmtree(scratch)
        if not destination.is_dir():
            raise BuildError(f"{self._with_modules()}={self._kernel.version} carries no modules")

    def vmlinux(self, destination: Path) -> None:
        """The kernel's ELF file with its symbols, without the debug information that makes up most of it."""
        name = f"usr/lib/debug/boot/vmlinux-{self._kernel.release}"
        found = destination.parent / name
        self._members(self._kernel.symbols, destination.parent, [f"./{name}"])
        if found.is_symlink():  # 7.2 has it among the modules
            name = os.path.normpath(Path(name).parent / found.readlink())
            found = destination.parent / name
            self._members(self._kernel.symbols, destination.parent, [f"./{name}"])
        run(["objcopy", "--strip-debug", "--keep-file-symbols", found, destination])
        shutil.rmtree(destination.parent / "usr")

    def _names(self) -> Iterator[str]:
        """All packages but kbuild's. The one before the last tells which the last is."""
        yield from (self._kernel.headers, self._kernel.source, self._kernel.symbols, self._kernel.image)
        yield self._with_modules()

    def _with_modules(self) -> str:
        depends = run(["dpkg-deb", "-f", self._deb(self._kernel.image), "Depends"])
        return self._kernel.modules if self._kernel.modules in depends else self._kernel.image

    def _members(self, package: str, directory: Path, members: list[str]) -> None:
        extract: list[Arg] = ["tar", "-x", "-C", directory, "--occurrence=1", *members]
        pipe(["dpkg-deb", "--fsys-tarfile", self._deb(package)], extract)

    def _has(self, name: str) -> bool:
        return _downloaded(name, self._kernel.version, self._downloads) is not None

    def _deb(self, name: str) -> Path:
        return fetch(name, self._kernel.version, self._downloads, self._archive)

    def _kbuild(self) -> str:
        return kbuild_package(run(["dpkg-deb", "-f", self._deb(self._kernel.headers), "Depends"]))

    def _kbuild_deb(self) -> Path:
        """Kbuild's programs. Older ones leave the archive first; the headers package is content with newer ones."""
        try:
            return self._deb(self._kbuild())
        except BuildError:
            newer = self._archive.candidate(self._kbuild())
            return fetch(self._kbuild(), newer, self._downloads, self._archive)
