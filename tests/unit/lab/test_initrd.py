# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""If these fail, VMs panic: the kernel can't unpack the archive, or a driver is loaded before what it needs."""

from __future__ import annotations

import gzip
import lzma
from pathlib import Path

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils.lab import initrd
from ansible_collections.kpatch.fleet.plugins.module_utils.lab.base import LabError

RELEASE = "6.12.0-test"
MODULES_DEP = """\
kernel/drivers/virtio/virtio.ko.xz:
kernel/drivers/virtio/virtio_ring.ko.xz: kernel/drivers/virtio/virtio.ko.xz
kernel/drivers/virtio/virtio_pci.ko.xz: kernel/drivers/virtio/virtio_ring.ko.xz kernel/drivers/virtio/virtio.ko.xz
kernel/drivers/net/virtio-net.ko.xz: kernel/net/core/failover.ko.xz kernel/drivers/virtio/virtio_ring.ko.xz \
kernel/drivers/virtio/virtio.ko.xz
kernel/net/core/failover.ko.xz:
"""


def unpack(archive: bytes) -> dict[str, tuple[int, bytes]]:
    """The mode and content of each file of a newc archive, read as the kernel reads it."""
    files: dict[str, tuple[int, bytes]] = {}
    offset = 0
    while True:
        assert archive[offset : offset + 6] == b"070701"
        fields = [int(archive[offset + 6 + 8 * i : offset + 14 + 8 * i], 16) for i in range(13)]
        name_begin = offset + 110
        name = archive[name_begin : name_begin + fields[11] - 1].decode()
        assert archive[name_begin + fields[11] - 1] == 0
        begin = (name_begin + fields[11] + 3) & ~3
        if name == "TRAILER!!!":
            return files
        files[name] = (fields[1], archive[begin : begin + fields[6]])
        offset = (begin + fields[6] + 3) & ~3


@pytest.mark.parametrize("size", range(6))
def test_files_of_any_length_come_out_as_they_went_in(size: int) -> None:
    archive = initrd.Archive()
    archive.add("x" * (size + 1), b"y" * size, 0o100644)
    archive.add("next", b"z", 0o100755)
    assert unpack(archive.finish()) == {"x" * (size + 1): (0o100644, b"y" * size), "next": (0o100755, b"z")}


def test_modules_come_after_what_they_need_and_once() -> None:
    order = [Path(file).name for file in initrd.closure(MODULES_DEP, ["virtio_pci", "virtio_net"])]
    assert sorted(order) == sorted(set(order))
    for name, need in [("virtio_ring", "virtio"), ("virtio_pci", "virtio_ring"), ("virtio-net", "failover")]:
        assert order.index(f"{name}.ko.xz") > order.index(f"{need}.ko.xz")


def test_a_driver_that_the_kernel_lacks_is_named() -> None:
    with pytest.raises(LabError, match="virtio_blk"):
        initrd.closure(MODULES_DEP, ["virtio_blk"])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An image tree with a kernel that has virtio_blk built in and the rest as compressed modules."""
    modules = tmp_path / "lib/modules" / RELEASE
    for line in MODULES_DEP.splitlines():
        file = modules / line.partition(":")[0]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(lzma.compress(file.name.encode()))
    (modules / "modules.dep").write_text(MODULES_DEP)
    (modules / "modules.builtin").write_text("kernel/drivers/block/virtio_blk.ko\nkernel/fs/ext4/ext4.ko\n")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/busybox").write_bytes(b"busybox")
    return tmp_path


def test_the_initrd_holds_plain_modules_and_loads_them_in_order(root: Path) -> None:
    files = unpack(gzip.decompress(initrd.build(root, RELEASE)))
    assert files["virtio_pci.ko"][1] == b"virtio_pci.ko.xz"
    assert files["bin/busybox"] == (0o100755, b"busybox")
    assert files["dev"][0] == 0o040755
    mode, init = files["init"]
    assert mode == 0o100755
    line = next(line for line in init.decode().splitlines() if line.startswith("for module in"))
    assert line.index("virtio_ring.ko") < line.index("virtio_pci.ko")
    assert "virtio_blk" not in line


def test_equal_inputs_give_equal_bytes(root: Path) -> None:
    assert initrd.build(root, RELEASE) == initrd.build(root, RELEASE)
