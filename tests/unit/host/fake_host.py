# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that is a directory: files as a kernel shows them, and a loader that keeps them as the core module would."""

from __future__ import annotations

import errno
import hashlib
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import example_artifact
from ansible_collections.kpatch.fleet.plugins.module_utils.host.parts import Part
from ansible_collections.kpatch.fleet.plugins.module_utils.host.state import read_host
from ansible_collections.kpatch.fleet.plugins.module_utils.host.transition import Transition

RELEASE = "6.1.0-56-cloud-amd64"
KERNEL_BUILD_ID = "ab" * 20
VERMAGIC = f"{RELEASE} SMP preempt mod_unload modversions "
KERNEL = example_artifact.kernel(RELEASE, KERNEL_BUILD_ID, VERMAGIC)


def note(build_id: str, kind: int = 3) -> bytes:
    """An ELF note of GNU's; kind 3 is the build id."""
    content = bytes.fromhex(build_id)
    return struct.pack("<III", 4, len(content), kind) + b"GNU\0" + content + bytes(-len(content) % 4)


def elf(vermagic: str = VERMAGIC, extra: bytes = b"", signed: bool = False) -> bytes:
    """As much of a .ko as the host side reads: .modinfo, found through the section names."""
    info = f"name=x\0vermagic={vermagic}\0".encode() + extra
    names = b"\0.modinfo\0.shstrtab\0"
    info_at = 64
    names_at = info_at + len(info)
    table = names_at + len(names)
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 1, 62, 1, 0, 0, table, 0, 64, 0, 0, 64, 3, 2)
    sections = b"".join(
        struct.pack("<IIQQQQIIQQ", name, 1, 0, 0, offset, size, 0, 0, 1, 0)
        for name, offset, size in [(0, 0, 0), (1, info_at, len(info)), (10, names_at, len(names))]
    )
    return header + info + names + sections + (b"~Module signature appended~\n" if signed else b"")


class FakeHost:
    """A host at *root*, which is made if it is not there yet.

    What *refuse* holds for a module makes its loading, switching or unloading fail.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.artifacts: dict[str, dict[str, Any]] = {}
        self.refuse: dict[tuple[str, str], list[int]] = {}
        self.refusal = ""
        self.calls: list[str] = []
        # The enabled patches as the kernel knows them, the newest last: of two with a function, that one is in charge.
        self.stack: list[str] = []
        if not (root / "proc").exists():
            self._make()

    def _make(self) -> None:
        root = self.root
        kernel = root / "proc/sys/kernel"
        (kernel / "random").mkdir(parents=True)
        (kernel / "osrelease").write_text(RELEASE + "\n")
        (kernel / "version").write_text("#1 SMP\n")
        (kernel / "arch").write_text("x86_64\n")
        (kernel / "tainted").write_text("0\n")
        (kernel / "random/boot_id").write_text("1-2-3\n")
        (root / "sys/kernel").mkdir(parents=True)
        (root / "sys/kernel/notes").write_bytes(note("00", kind=1) + note(KERNEL_BUILD_ID))
        (root / "sys/module").mkdir()
        (root / "run").mkdir()
        (root / "var").mkdir()

    def artifact(
        self, name: str, build: str = "1", image: bytes | None = None, **changes: Any
    ) -> tuple[dict[str, Any], Path]:
        """A manifest and the file that it describes; another *build* has another identity."""
        image = image if image is not None else elf(extra=build.encode())
        src = self.root / f"{name}-{build}.ko"
        src.write_bytes(image)
        own: dict[str, Any] = {
            "input_sha256": hashlib.sha256(build.encode()).hexdigest(),
            "srcversion": "SRC" + build,
            "build_id": hashlib.sha1(build.encode()).hexdigest(),
        }
        if name != "kpatch":
            own["functions"] = [{"object": "vmlinux", "name": "meminfo_proc_show", "sympos": 0, "reason": "changed"}]
        manifest = example_artifact.manifest(name, image, KERNEL, **{**own, **changes})
        self.artifacts[manifest["sha256"]] = manifest
        return manifest, src

    def load(self, handle: int, parameters: str = "") -> None:
        """finit_module(2)."""
        image = os.pread(handle, 1 << 20, 0)
        manifest = self.artifacts[hashlib.sha256(image).hexdigest()]
        module = manifest.get("loaded_as") or manifest["module"]
        self.calls.append(" ".join(filter(None, ["load", manifest["module"], manifest["srcversion"], parameters])))
        self._maybe_refuse("load", manifest["srcversion"])
        if (self.root / "sys/module" / module).exists():
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
        shown = manifest.get("shown", manifest)
        self.show_module(module, shown["srcversion"], shown["build_id"])
        if manifest["kind"] == "core":
            (self.root / "sys/kernel/kpatch/patches").mkdir(parents=True)
            (self.root / "sys/kernel/kpatch/abi").write_text(f"{shown['abi']}\n")
            self.say("")
        elif manifest["functions"]:
            self.show_patch(module, functions=[function["name"] for function in manifest["functions"]])
            self.stack.append(module)
            if parameters:
                replaced = self.root / "sys/kernel/kpatch/patches" / parameters.removeprefix("replaces=")
                (replaced / "enabled").write_text("0\n")
                self.stack.remove(replaced.name)
            if (("stall", manifest["srcversion"])) in self.refuse:
                (self.root / "sys/kernel/kpatch/patches" / module / "transition").write_text("1\n")

    def unload(self, module: str) -> None:
        """delete_module(2)."""
        self.calls.append(f"unload {module}")
        self._maybe_refuse("unload", module)
        path = self.root / "sys/kernel/kpatch/patches" / module
        if path.is_dir():
            if (path / "enabled").read_text().strip() == "1":
                raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            remove(path)
        if module == "kpatch":
            remove(self.root / "sys/kernel/kpatch")
        remove(self.root / "sys/module" / module)

    def write(self, path: Path, value: bytes) -> None:
        """What stands in for a write to a patch's file 'enabled'."""
        self.calls.append(f"write {path.parent.name} {value.decode()}")
        self._maybe_refuse("write", path.parent.name)
        path.write_bytes(value + b"\n")
        self.stack = [name for name in self.stack if name != path.parent.name]
        if value == b"1":
            self.stack.append(path.parent.name)

    def in_charge(self, function: str) -> str | None:
        """The patch module whose replacement of a function of vmlinux is called."""
        patches = self.root / "sys/kernel/kpatch/patches"
        has = [name for name in self.stack if (patches / name / f"vmlinux/{function},1").exists()]
        return has[-1] if has else None

    def show_module(self, module: str, srcversion: str, build_id: str) -> None:
        path = self.root / "sys/module" / module
        (path / "notes").mkdir(parents=True)
        (path / "holders").mkdir()
        (path / "initstate").write_text("live\n")
        (path / "srcversion").write_text(srcversion + "\n")
        (path / "refcnt").write_text("0\n")
        (path / "taint").write_text("OEK\n")
        (path / "notes/.note.gnu.build-id").write_bytes(note(build_id))

    def show_patch(self, module: str, enabled: bool = True, functions: Sequence[str] = ("meminfo_proc_show",)) -> None:
        path = self.root / "sys/kernel/kpatch/patches" / module
        for function in functions:
            (path / f"vmlinux/{function},1").mkdir(parents=True)
        (path / "vmlinux/patched").write_text("1\n")
        (path / "enabled").write_text(f"{int(enabled)}\n")
        (path / "transition").write_text("0\n")
        (path / "consistency").write_text("patched_set kernel\n")
        (path / "window_ns").write_text("435000\n")

    def show_livepatch(self, module: str, function: str) -> None:
        path = self.root / "sys/kernel/livepatch" / module
        (path / "vmlinux" / f"{function},1").mkdir(parents=True)
        (path / "enabled").write_text("1\n")
        (path / "transition").write_text("0\n")

    def say(self, refusal: str) -> None:
        (self.root / "sys/kernel/kpatch/refusal").write_text(refusal + "\n")

    def transition(self, module: str, wanted: str, *artifact: Any, timeout: float = 0.0) -> Transition:
        part = Part(name_of(module), wanted, *artifact)
        return Transition(self.root, self, read_host(self.root), part, timeout)

    def tree(self) -> dict[str, str]:
        """Every file that matters, with its contents: what must be as it was after a failure."""
        parts = [self.root / "sys", self.root / "var"]
        files = [path for part in parts for path in sorted(part.rglob("*")) if path.is_file()]
        return {str(path): path.read_bytes().hex() for path in files if path.name != "refusal"}

    def _maybe_refuse(self, what: str, key: str) -> None:
        codes = self.refuse.get((what, key))
        if codes:
            code = codes[0] if len(codes) == 1 else codes.pop(0)
            if code:
                if self.refusal:
                    self.say(self.refusal)
                raise OSError(code, os.strerror(code))


def name_of(module: str) -> str:
    """The patch's name, or the core module's, by the kernel module's."""
    return module.removeprefix("kpatch_").replace("_", "-")


def remove(path: Path) -> None:
    for entry in sorted(path.rglob("*"), reverse=True):
        entry.rmdir() if entry.is_dir() else entry.unlink()
    path.rmdir()
