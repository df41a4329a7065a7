# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""If these fail, a kernel given by path is booted under a wrong name, or a file that is none is handed to QEMU."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils.lab import own_kernel
from ansible_collections.kpatch.fleet.plugins.module_utils.lab.base import LabError


def bzimage(path: Path, version: bytes) -> Path:
    header = bytearray(0x400)
    header[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", header, 0x20E, 0x100)
    header[0x300 : 0x300 + len(version)] = version
    path.write_bytes(header)
    return path


def test_the_header_says_the_release(tmp_path: Path) -> None:
    path = bzimage(tmp_path / "vmlinuz", b"6.1.192-own (builder@host) #1 SMP")
    assert own_kernel.release(path) == "6.1.192-own"


@pytest.mark.parametrize("content", [b"", b"\x7fELF" + bytes(0x400)])
def test_what_is_no_kernel_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "vmlinux"
    path.write_bytes(content)
    with pytest.raises(LabError, match="bzImage"):
        own_kernel.release(path)


def test_a_missing_kernel_is_named(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="no-such-file"):
        own_kernel.release(tmp_path / "no-such-file")


def test_it_boots_without_an_initrd(tmp_path: Path) -> None:
    arguments = own_kernel.boot(tmp_path / "vmlinuz", "quiet").arguments()
    assert "-initrd" not in arguments
    assert arguments[:2] == ["-kernel", str(tmp_path / "vmlinuz")]
