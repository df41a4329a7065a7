# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A minimal initial file system: just the drivers that find the root disk and the network card.

The cloud kernels have ext4 built in, but some or all of virtio as modules. NVMe is built in too, but QEMU can't save
the state of a VM with an NVMe disk, and saved states are what makes a fleet appear in seconds.
"""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Iterable
from pathlib import Path

from ansible_collections.kpatch.fleet.plugins.module_utils.lab.base import LabError

MODULES = ("virtio_pci", "virtio_blk", "virtio_net")
_TRAILER = "TRAILER!!!"

_INIT = """#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
for module in {modules}; do
    /bin/busybox insmod "/$module"
done
until [ -b /dev/vda ]; do /bin/busybox usleep 20000; done
/bin/busybox mount -t ext4 -o rw /dev/vda /root
/bin/busybox mount --move /dev /root/dev
exec /bin/busybox switch_root /root /sbin/init
"""


def build(root: Path, release: str) -> bytes:
    """The compressed archive for the kernel *release* whose modules lie in the image tree *root*."""
    modules_dir = root / "lib/modules" / release
    built_in = _names((modules_dir / "modules.builtin").read_text(encoding="utf-8"))
    wanted = [name for name in MODULES if name not in built_in]
    names = closure((modules_dir / "modules.dep").read_text(encoding="utf-8"), wanted)
    files = {_plain_name(name): _module_bytes(modules_dir / name) for name in names}
    init = _INIT.format(modules=" ".join(files))
    archive = Archive()
    for directory in ("bin", "dev", "root"):
        archive.add(directory, b"", 0o040755)
    archive.add("bin/busybox", (root / "bin/busybox").read_bytes(), 0o100755)
    archive.add("init", init.encode(), 0o100755)
    for name, content in files.items():
        archive.add(name, content, 0o100644)
    return gzip.compress(archive.finish(), compresslevel=6, mtime=0)


def closure(modules_dep: str, wanted: Iterable[str]) -> list[str]:
    """The files of the *wanted* modules and of all they need, in loading order, from a modules.dep text."""
    needs: dict[str, list[str]] = {}
    files: dict[str, str] = {}
    for line in modules_dep.splitlines():
        file, _colon, rest = line.partition(":")
        needs[file] = rest.split()
        files[_module_name(file)] = file
    order: list[str] = []
    for name in wanted:
        if name not in files:
            raise LabError(f"the kernel has no module '{name}', which the lab's VMs can't do without")
        # modules.dep lists what a module needs with the deepest need last.
        for file in [*reversed(needs[files[name]]), files[name]]:
            if file not in order:
                order.append(file)
    return order


def _names(modules_builtin: str) -> set[str]:
    return {_module_name(line) for line in modules_builtin.splitlines()}


def _module_name(file: str) -> str:
    """The name that insmod gives to kernel/drivers/…/virtio-rng.ko.xz: virtio_rng."""
    return Path(file).name.split(".")[0].replace("-", "_")


def _plain_name(file: str) -> str:
    return Path(file).name.split(".")[0] + ".ko"


def _module_bytes(path: Path) -> bytes:
    """A module's bytes, decompressed: linux 6.12 of bookworm-security ships .ko.xz."""
    content = path.read_bytes()
    return lzma.decompress(content) if path.suffix == ".xz" else content


class Archive:
    """A cpio archive in the 'newc' form, the one that kernels unpack."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._inode = 0

    def add(self, name: str, content: bytes, mode: int) -> None:
        """Append one file or directory; *mode* carries the file type."""
        self._inode += 1
        encoded = name.encode() + b"\0"
        fields = (self._inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(encoded), 0)
        header = b"070701" + b"".join(b"%08X" % field for field in fields)
        self._parts += [_padded(header + encoded), _padded(content)]

    def finish(self) -> bytes:
        """The whole archive."""
        self.add(_TRAILER, b"", 0)
        return b"".join(self._parts)


def _padded(block: bytes) -> bytes:
    return block + b"\0" * (-len(block) % 4)
