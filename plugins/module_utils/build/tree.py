# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The prepared kernel tree: everything that rebuilding one kernel's objects needs, kept in the cache.

``<cache>/kernels/<release>/`` holds ``source/``, ``objects/`` (where kbuild puts objects), ``modules/`` (as
shipped), ``vmlinux`` (with symbols) and ``kernel.json``. It is prepared beside its place and appears by rename:
an unfinished preparation is never seen. Nothing writes to ``source/`` afterwards; ``objects/`` is written to
under the kernel's lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import lzma
import mmap
import os
import re
import shutil
import struct
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Callable, NamedTuple, TextIO

from ansible_collections.kpatch.fleet.plugins.module_utils.archive import open_archive
from ansible_collections.kpatch.fleet.plugins.module_utils.build import elf, toolchain, waiting
from ansible_collections.kpatch.fleet.plugins.module_utils.build.debian import Unpacker, identify, suite_of
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import BuildError, known
from ansible_collections.kpatch.fleet.plugins.module_utils.manifest import check_release, file_sha256

FORMAT = 1
Say = Callable[[str], None]

_BUILD_ID = (b"GNU\0", 3)
_NOTE = struct.Struct("<III")  # sizes of name and description, type
_SETTING = re.compile(r'(CONFIG_\w+)=(?:"(.*)"|(.*))')


class Identity(NamedTuple):
    """A kernel as it presents itself: uname -r, uname -v and the build id in /sys/kernel/notes."""

    release: str
    version: str
    build_id: str

    @classmethod
    def of(cls, kernel: Mapping[str, Any]) -> Identity:
        """From the `kernel` of a host's facts."""
        if kernel.get("machine", "x86_64") != "x86_64":
            raise BuildError(f"kernel {kernel.get('release')}: {kernel['machine']} is not served, only x86_64 is")
        return cls(check_release(kernel.get("release")), str(kernel.get("version")), str(kernel.get("build_id")))


class Tree(NamedTuple):
    """A prepared kernel."""

    root: Path
    release: str
    package: str
    build_id: str
    compiler: str
    vermagic: str
    config_sha256: str
    symvers_sha256: str

    @property
    def source(self) -> Path:
        """The kernel's source; never written to."""
        return self.root / "source"

    @property
    def objects(self) -> Path:
        """Where kbuild works."""
        return self.root / "objects"

    @property
    def vmlinux(self) -> Path:
        """The kernel with its symbols."""
        return self.root / "vmlinux"

    @property
    def symvers(self) -> Path:
        """What the kernel exports."""
        return self.objects / "Module.symvers"

    @property
    def cc(self) -> str:
        """The compiler by the name it was called by, which kbuild compares too."""
        return self.compiler.split()[0]

    def config(self) -> dict[str, str]:
        """The kernel's configuration: only what is set."""
        return read_config(self.objects / ".config")

    @property
    def tools(self) -> toolchain.Toolchain:
        """The programs to build with."""
        return toolchain.of(self.root.parents[1], suite_of(self.package), self.compiler)

    def module(self, name: str, scratch: Path) -> Path:
        """The shipped file of module *name*, uncompressed (into *scratch* if need be)."""
        for path in sorted((self.root / "modules").rglob("*.ko*")):
            if path.name.split(".ko")[0].replace("-", "_") == name:
                return _uncompressed(path, scratch)
        raise BuildError(f"kernel {self.release} ships no module {name}")


def read_config(path: Path) -> dict[str, str]:
    """The settings of a .config; those that are not set are not in it."""
    matches = (_SETTING.fullmatch(line) for line in path.read_text(encoding="utf-8").splitlines())
    return {match[1]: match[2] if match[2] is not None else match[3] for match in matches if match}


def kernel_directory(cache: Path, release: str) -> Path:
    """Where the prepared tree of the kernel *release* is, or will be."""
    return cache / "kernels" / check_release(release)


def look(cache: Path, kernel: Identity) -> Tree | None:
    """The prepared tree of *kernel*, if there is one of this very build."""
    root = kernel_directory(cache, kernel.release)
    try:
        facts = json.loads((root / "kernel.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    if facts.pop("format", None) != FORMAT or facts["build_id"] != kernel.build_id:
        return None
    return Tree(root=root, **facts)


def remembered(tree: Tree, name: str, make: Callable[[], str]) -> str:
    """What *make* found out about the prepared kernel, kept beside it in the file *name*."""
    path = tree.root / name
    with contextlib.suppress(FileNotFoundError):
        return path.read_text(encoding="utf-8")
    text = make()
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=tree.root, prefix=f".{name}.", delete=False) as stream:
        stream.write(text)
    Path(stream.name).replace(path)
    return text


@contextlib.contextmanager
def locked(cache: Path, release: str, say: Say) -> Iterator[TextIO]:
    """Hold the kernel's lock: one builder at a time prepares a kernel. A dead builder's lock is free."""
    path = kernel_directory(cache, release).with_name(release + ".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="ascii") as stream:
        waiting.lock(stream, f"kernel {release}", say)
        yield stream


@contextlib.contextmanager
def using(cache: Path, kernel: Identity, say: Say) -> Iterator[Tree]:
    """The prepared tree of *kernel*; several builders may use it at once, and nobody replaces it meanwhile."""
    with locked(cache, kernel.release, say) as lock:
        tree = ensure(cache, kernel, say)
        fcntl.flock(lock, fcntl.LOCK_SH)
        # Another builder may have taken the lock in between, for another build of the release.
        if look(cache, kernel) != tree:
            raise BuildError(
                f"kernel {kernel.release}: another build of this release was prepared meanwhile; survey the hosts "
                "again: they run two builds of one release"
            )
        yield tree


def ensure(cache: Path, kernel: Identity, say: Say) -> Tree:
    """The prepared tree of *kernel*; the caller holds its lock."""
    tree = look(cache, kernel)
    if tree is None:
        _prepare(cache, kernel, say)
        tree = known(look(cache, kernel), "prepared, so that it is found")
    toolchain.check(toolchain.ensure(cache, suite_of(tree.package), tree.compiler, say), tree.compiler, tree.release)
    return tree


def _prepare(cache: Path, kernel: Identity, say: Say) -> None:
    root = kernel_directory(cache, kernel.release)
    _remove_unfinished(root)
    package = identify(kernel.release, kernel.version)
    packages = Unpacker(package, cache / "downloads", open_archive(cache, package.suite))
    say(f"downloading the packages of kernel {kernel.release}")
    packages.fetch()
    with _scratch(root) as work:
        say("unpacking the kernel's symbols and modules")
        packages.vmlinux(work / "vmlinux")
        packages.modules(work / "modules")
        _check_vmlinux(work / "vmlinux", kernel)
        say("unpacking the kernel's headers and source")
        packages.objects(work / "objects")
        packages.source(work / "source")
        _freshen(work / "objects")
        _write_facts(work, kernel)
        if root.exists():
            shutil.rmtree(root)
        work.rename(root)


@contextlib.contextmanager
def _scratch(root: Path) -> Iterator[Path]:
    work = Path(tempfile.mkdtemp(dir=root.parent, prefix=f".{root.name}."))
    work.chmod(0o755)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _remove_unfinished(root: Path) -> None:
    """What a killed preparation left behind; the lock says that nobody is at work on it."""
    for leftover in root.parent.glob(f".{root.name}.*"):
        shutil.rmtree(leftover)


def _check_vmlinux(vmlinux: Path, kernel: Identity) -> None:
    """The symbols must be those of the very kernel that runs: same build id, same banner."""
    found = build_id(vmlinux)
    if found != kernel.build_id:
        raise BuildError(
            f"kernel {kernel.release}: the symbols package is of build {found}, but build {kernel.build_id} runs: "
            "the hosts run another build of this release than the archive carries; survey them again"
        )
    if kernel.version.encode() not in vmlinux.read_bytes():
        raise BuildError(f"kernel {kernel.release}: its vmlinux does not call itself '{kernel.version}'")


def build_id(path: Path) -> str:
    """The GNU build id of an ELF file, in hex."""
    # Not by readelf -n: it fails at notes that are younger than itself, as 7.2's modules have them.
    for section in (".note.gnu.build-id", ".notes"):  # of modules; of vmlinux
        for name, kind, description in _notes(_section(path, section)):
            if (name, kind) == _BUILD_ID:
                return description.hex()
    raise BuildError(f"{path}: has no build id")


def _notes(section: bytes) -> Iterator[tuple[bytes, int, bytes]]:
    """The notes of a section: owner, type, description."""
    at = 0
    while at + _NOTE.size <= len(section):
        name_size, size, kind = _NOTE.unpack_from(section, at)
        name = at + _NOTE.size
        description = name + (name_size + 3) // 4 * 4
        yield section[name : name + name_size], kind, section[description : description + size]
        at = description + (size + 3) // 4 * 4


def modinfo(path: Path) -> dict[str, str]:
    """The single-valued fields of a module's .modinfo."""
    text = _section(path, ".modinfo").decode("utf-8", "replace")
    return dict(entry.split("=", 1) for entry in text.split("\0") if "=" in entry)


def _section(path: Path, name: str) -> bytes:
    """The contents of a section; empty if there is none of that name."""
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as image:
        with memoryview(image) as view:
            headers = elf.headers(path, view, (elf.ET_REL, elf.ET_EXEC, elf.ET_DYN))
        found = (header for header in headers if header.name == name)
        return b"".join(image[header.offset : header.offset + header.size] for header in found)


def _uncompressed(path: Path, scratch: Path) -> Path:
    if path.suffix == ".ko":
        return path
    if path.suffix != ".xz":
        raise BuildError(f"{path}: don't know how to uncompress it")
    plain = scratch / path.stem
    with lzma.open(path) as packed, plain.open("wb") as stream:
        shutil.copyfileobj(packed, stream)
    return plain


def _freshen(objects: Path) -> None:
    """Make everything generated newer than .config, so that make has nothing to generate."""
    config = objects / ".config"
    (objects / "include/config/auto.conf.cmd").touch()
    stamp = config.stat().st_mtime
    for part in ("include", "arch"):
        for path in (objects / part).rglob("*"):
            os.utime(path, (stamp + 1, stamp + 1))


def _write_facts(work: Path, kernel: Identity) -> None:
    config = read_config(work / "objects/.config")
    with tempfile.TemporaryDirectory() as scratch:
        some_module = _uncompressed(min((work / "modules").rglob("*.ko*")), Path(scratch))
        vermagic = modinfo(some_module)["vermagic"]
    facts = {
        "format": FORMAT,
        "release": kernel.release,
        "package": identify(kernel.release, kernel.version).version,
        "build_id": kernel.build_id,
        "compiler": config["CONFIG_CC_VERSION_TEXT"],
        "vermagic": vermagic,
        "config_sha256": file_sha256(work / "objects/.config"),
        "symvers_sha256": file_sha256(work / "objects/Module.symvers"),
    }
    (work / "kernel.json").write_text(json.dumps(facts, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def text_sha256(text: str) -> str:
    """The sha256 of a text, as hex digits."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
