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
import gzip
import hashlib
import json
import lzma
import os
import re
import shutil
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, NamedTuple, TextIO

from ansible_collections.kpatch.fleet.plugins.module_utils.build import elf, toolchain, waiting
from ansible_collections.kpatch.fleet.plugins.module_utils.build.config import read_config
from ansible_collections.kpatch.fleet.plugins.module_utils.build.identity import Identity
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import VMLINUX, BuildError, known
from ansible_collections.kpatch.fleet.plugins.module_utils.build.provider import ensure_tools, provider, tools
from ansible_collections.kpatch.fleet.plugins.module_utils.build.run import run
from ansible_collections.kpatch.fleet.plugins.module_utils.build.symtab import read_symbols
from ansible_collections.kpatch.fleet.plugins.module_utils.build.symvers import read_symvers
from ansible_collections.kpatch.fleet.plugins.module_utils.manifest import check_release, file_sha256

FORMAT = 1
Say = Callable[[str], None]

_BUILD_ID = (b"GNU\0", 3)
_NOTE = struct.Struct("<III")  # sizes of name and description, type
# VERMAGIC_STRING in include/linux/vermagic.h, behind the release
_VERMAGIC = rb" (?:[A-Za-z_0-9]+ )+\0"


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
    tools: toolchain.Toolchain = toolchain.Toolchain()

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

    def module(self, name: str, scratch: Path) -> Path:
        """The shipped file of module *name*, uncompressed (into *scratch* if need be)."""
        for path in sorted((self.root / "modules").rglob("*.ko*")):
            if path.name.split(".ko")[0].replace("-", "_") == name:
                return _uncompressed(path, scratch)
        raise BuildError(f"kernel {self.release} ships no module {name}")


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
    # Whoever gives another source for the kernel wants it prepared anew.
    if facts.pop("source", None) != (kernel.source and kernel.source.told()):
        return None
    return Tree(root=root, tools=tools(cache, kernel, facts["package"], facts["compiler"]), **facts)


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
def locked(cache: Path, release: str, say: Say, shared: bool = False) -> Iterator[TextIO]:
    """Hold the kernel's lock: one builder at a time prepares a kernel, any number *shared* use it."""
    path = kernel_directory(cache, release).with_name(release + ".lock")
    with waiting.held(path, f"kernel {release}", say, shared) as stream:
        yield stream


@contextlib.contextmanager
def using(cache: Path, kernel: Identity, say: Say) -> Iterator[Tree]:
    """The prepared tree of *kernel*; several builders may use it at once, and nobody replaces it meanwhile."""
    with locked(cache, kernel.release, say, shared=True) as lock:
        if look(cache, kernel) is None:
            # The shared lock goes before the other one comes: two that want to prepare don't wait for each other.
            waiting.lock(lock, f"kernel {kernel.release}", say)
            prepared = ensure(cache, kernel, say)
            fcntl.flock(lock, fcntl.LOCK_SH)
            # Another builder may have taken the lock in between, for another build of the release.
            if look(cache, kernel) != prepared:
                raise BuildError(
                    f"kernel {kernel.release}: another build of this release was prepared meanwhile; survey the hosts "
                    "again: they run two builds of one release"
                )
        yield ensure(cache, kernel, say)


def ensure(cache: Path, kernel: Identity, say: Say) -> Tree:
    """The prepared tree of *kernel*; the caller holds its lock, a shared one if the tree is there."""
    tree = look(cache, kernel)
    if tree is None:
        _prepare(cache, kernel, say)
        tree = known(look(cache, kernel), "prepared, so that it is found")
    ensure_tools(cache, kernel, tree.package, tree.compiler, say)
    toolchain.check(tree.tools, tree.compiler, tree.release)
    return tree


def _prepare(cache: Path, kernel: Identity, say: Say) -> None:
    root = kernel_directory(cache, kernel.release)
    _remove_unfinished(root)
    parts = provider(cache, kernel)
    parts.fetch(say)
    with _scratch(root) as work:
        say(f"{kernel.release}: unpacking the kernel's symbols and modules")
        parts.vmlinux(work / "vmlinux")
        parts.modules(work / "modules")
        _check_vmlinux(work / "vmlinux", kernel, parts.mend)
        _check_modules(work / "modules", kernel, parts.mend)
        say(f"{kernel.release}: unpacking the kernel's source and headers")
        package = parts.source(work / "source", work / "objects")
        _check_symvers(work, kernel, parts.mend)
        _freshen(work / "objects")
        _write_facts(work, kernel, package)
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


def _check_vmlinux(vmlinux: Path, kernel: Identity, mend: str) -> None:
    """The symbols must be those of the very kernel that runs: same build id, same banner."""
    found = build_id(vmlinux)
    if found != kernel.build_id:
        raise BuildError(
            f"kernel {kernel.release}: its vmlinux is of build {found}, but build {kernel.build_id} runs: {mend}"
        )
    if kernel.version.encode() not in vmlinux.read_bytes():
        raise BuildError(f"kernel {kernel.release}: its vmlinux does not call itself '{kernel.version}'")


def _check_modules(modules: Path, kernel: Identity, mend: str) -> None:
    """All are of one release; one of them tells which. A kernel may have none."""
    some = min(modules.rglob("*.ko*"), default=None)
    if some is None:
        return
    with tempfile.TemporaryDirectory() as scratch:
        release = modinfo(_uncompressed(some, Path(scratch))).get("vermagic", "").split(" ")[0]
    if release != kernel.release:
        raise BuildError(f"kernel {kernel.release}: {some.relative_to(modules)} is a module of '{release}': {mend}")


def _check_symvers(work: Path, kernel: Identity, mend: str) -> None:
    """What Module.symvers says that vmlinux exports is there."""
    symbols = read_symbols(work / "vmlinux")
    exports = read_symvers(work / "objects/Module.symvers")
    lacking = [name for name, export in exports.items() if export.module == VMLINUX and name not in symbols]
    if lacking:
        raise BuildError(
            f"kernel {kernel.release}: vmlinux has no symbol {lacking[0]} (nor {len(lacking) - 1} others), which "
            f"Module.symvers lists; one of them is stripped, or of another build: {mend}"
        )


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
    image = elf.mapped(path)
    found = (header for header in elf.headers(path, image, (elf.ET_REL, *elf.LINKED)) if header.name == name)
    return b"".join(image[header.offset : header.offset + header.size] for header in found)


def _uncompressed(path: Path, scratch: Path) -> Path:
    if path.suffix == ".ko":
        return path
    plain = scratch / path.stem
    if path.suffix == ".zst":
        run(["zstd", "-d", "-q", "-f", path, "-o", plain])
        return plain
    if path.suffix not in _OPENERS:
        raise BuildError(f"{path}: don't know how to uncompress it")
    with _OPENERS[path.suffix](path) as packed, plain.open("wb") as stream:
        shutil.copyfileobj(packed, stream)
    return plain


_OPENERS: dict[str, Callable[[Path], Any]] = {".xz": lzma.open, ".gz": gzip.open}


def _freshen(objects: Path) -> None:
    """Make everything generated newer than .config, so that make has nothing to generate."""
    config = objects / ".config"
    (objects / "include/config/auto.conf.cmd").touch()
    stamp = config.stat().st_mtime
    for part in ("include", "arch"):
        for path in (objects / part).rglob("*"):
            os.utime(path, (stamp + 1, stamp + 1))


def _write_facts(work: Path, kernel: Identity, package: str) -> None:
    facts = {
        "format": FORMAT,
        "release": kernel.release,
        "package": package,
        "build_id": kernel.build_id,
        "compiler": read_config(work / "objects/.config")["CONFIG_CC_VERSION_TEXT"],
        "vermagic": _vermagic(work / "vmlinux", kernel.release),
        "config_sha256": file_sha256(work / "objects/.config"),
        "symvers_sha256": file_sha256(work / "objects/Module.symvers"),
        **({"source": kernel.source.told()} if kernel.source else {}),
    }
    (work / "kernel.json").write_text(json.dumps(facts, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _vermagic(vmlinux: Path, release: str) -> str:
    """What the kernel wants a module's vermagic to be; it has no section or symbol of its own everywhere."""
    found = re.search(re.escape(release.encode()) + _VERMAGIC, vmlinux.read_bytes())
    if found is None:
        raise BuildError(f"kernel {release}: its vmlinux names no vermagic: it takes no modules (CONFIG_MODULES)")
    return found.group()[:-1].decode("ascii")


def text_sha256(text: str) -> str:
    """The sha256 of a text, as hex digits."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
