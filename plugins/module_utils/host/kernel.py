# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads which kernel runs, what has tainted it, and what it allows."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from ansible_collections.kpatch.fleet.plugins.module_utils.host.elf import build_id
from ansible_collections.kpatch.fleet.plugins.module_utils.host.errors import HostError
from ansible_collections.kpatch.fleet.plugins.module_utils.host.files import (
    read_bytes,
    read_flag,
    read_int,
    read_text,
)

# Documentation/admin-guide/tainted-kernels.rst: bit n of the value is the nth line.
TAINTS = (
    ("P", "proprietary-module"),
    ("F", "forced-load"),
    ("S", "out-of-specification-cpu"),
    ("R", "forced-unload"),
    ("M", "machine-check"),
    ("B", "bad-page"),
    ("U", "userspace-request"),
    ("D", "died"),
    ("A", "overridden-acpi-table"),
    ("W", "warned"),
    ("C", "staging-driver"),
    ("I", "firmware-workaround"),
    ("O", "out-of-tree-module"),
    ("E", "unsigned-module"),
    ("L", "soft-lockup"),
    ("K", "livepatch"),
    ("X", "auxiliary"),
    ("T", "randomized-struct-layout"),
    ("N", "test"),
)

# 12b0aff4 I------     1 perm 1f030000     0     0 asymmetri Debian Secure Boot CA: 6ccece7e…: X509.rsa 4cec2e1d []
_PUBLIC_KEY = re.compile(r" asymmetri .*: ([0-9a-f]+): X509\.")


def read_kernel(root: Path) -> dict[str, Any]:
    """The running kernel's identity and temper; HostError if it doesn't even tell its release."""
    sysctl = root / "proc/sys/kernel"
    release = read_text(sysctl / "osrelease")
    if not release:
        raise HostError("io-error", f"{sysctl / 'osrelease'}: there is no kernel to read; is /proc mounted?")
    return {
        "release": release,
        "version": read_text(sysctl / "version"),
        "machine": read_text(sysctl / "arch") or os.uname().machine,
        "build_id": build_id(read_bytes(root / "sys/kernel/notes") or b""),
        "boot_id": read_text(sysctl / "random/boot_id"),
        "counters": {name: read_int(root / f"sys/kernel/{name}_count") for name in ("oops", "warn")},
        "taint": taint(read_int(sysctl / "tainted") or 0),
        "lockdown": lockdown(read_text(root / "sys/kernel/security/lockdown")),
        "signatures_enforced": read_flag(root / "sys/module/module/parameters/sig_enforce"),
        "trusted_keys": trusted_keys(read_text(root / "proc/keys")),
        "livepatch": (root / "sys/kernel/livepatch").is_dir(),
        "modules_disabled": read_flag(sysctl / "modules_disabled"),
    }


def taint(value: int) -> dict[str, Any]:
    """The taint value taken apart: one letter and one name for each bit; an unknown bit is named by its number."""
    bits = [bit for bit in range(value.bit_length()) if value >> bit & 1]
    known = [TAINTS[bit] if bit < len(TAINTS) else (f"#{bit}", f"bit-{bit}") for bit in bits]
    return {"value": value, "flags": [letter for letter, _name in known], "names": [name for _letter, name in known]}


def lockdown(text: str | None) -> str:
    """The mode in brackets of e.g. '[none] integrity confidentiality'; 'none' if the kernel has no lockdown."""
    chosen = re.search(r"\[(\w+)\]", text or "")
    return chosen.group(1) if chosen else "none"


def trusted_keys(text: str | None) -> list[str] | None:
    """The ids of the public keys in the kernel's keyrings, out of /proc/keys; None if it shows none.

    The description of a key of an X.509 certificate is its subject, and in hex its key identifier or serial number.
    Only root sees them. Which keyring a key is in is not told.
    """
    found = sorted({match.group(1) for match in map(_PUBLIC_KEY.search, (text or "").splitlines()) if match})
    return found or None
