# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A kernel that comes as a file instead of a package: what it calls itself, and how it is booted."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

from ansible_collections.kpatch.fleet.plugins.module_utils.lab.base import LabError
from ansible_collections.kpatch.fleet.plugins.module_utils.lab.machine import Boot

# Documentation/x86/boot.rst: the magic number, and where the pointer to the version's text is.
_MAGIC, _MAGIC_AT, _VERSION_AT, _SETUP_AT = b"HdrS", 0x202, 0x20E, 0x200


def release(vmlinuz: Path) -> str:
    """What `uname -r` will say, from the header of the bzImage."""
    try:
        header = vmlinuz.read_bytes()[: 1 << 16]
    except OSError as error:
        raise LabError(f"the kernel {vmlinuz} can't be read: {error.strerror}") from error
    if header[_MAGIC_AT : _MAGIC_AT + len(_MAGIC)] != _MAGIC:
        raise LabError(f"{vmlinuz} is not a kernel that x86 boots (a bzImage)")
    (pointer,) = struct.unpack_from("<H", header, _VERSION_AT)
    text = header[_SETUP_AT + pointer :].split(b"\0", 1)[0].decode("ascii", "replace")
    return text.split(" ", 1)[0]


def fingerprint(vmlinuz: Path) -> str:
    """Tells two kernels of one release apart."""
    return hashlib.sha256(vmlinuz.read_bytes()).hexdigest()


def boot(vmlinuz: Path, append: str) -> Boot:
    """It has built in what it needs to find its root: there is no initrd."""
    return Boot(vmlinuz, None, append)
