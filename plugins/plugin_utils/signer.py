# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The signature of a manifest in the store: which key made it, and whether the store lets that key sign."""

from __future__ import annotations

import base64
import hashlib
import struct
from pathlib import Path
from typing import Any

from ansible_collections.kpatch.fleet.plugins.module_utils.manifest import dump
from ansible_collections.kpatch.fleet.plugins.module_utils.signature import ALLOWED, NAME, verify

# PROTOCOL.sshsig of OpenSSH: the magic, a version, and the public key as a string with its length before it.
_MAGIC = b"SSHSIG"
_KEY_AT = len(_MAGIC) + 4


def checked(store: Path, manifest: dict[str, Any], directory: Path) -> str | None:
    """The signature of the *manifest* in *directory*, if it has one.

    SignatureError if *store* names who may sign, and none of them has.
    """
    place = directory / NAME
    given = place.read_text(encoding="utf-8", errors="replace") if place.is_file() else None
    verify(dump(manifest), given, store / ALLOWED, f"{directory}: the manifest")
    return given


def fingerprint(directory: Path) -> str:
    """The fingerprint of the key that has signed the manifest in *directory*, as ssh-keygen -l prints it.

    Nothing if there is no signature that can be read; whether that key may sign is judged by `checked`.
    """
    try:
        lines = (directory / NAME).read_text(encoding="ascii").splitlines()
        blob = base64.b64decode("".join(line for line in lines if not line.startswith("-")), validate=True)
        (length,) = struct.unpack_from(">I", blob, _KEY_AT)
    except (OSError, ValueError, struct.error):
        return ""
    key = blob[_KEY_AT + 4 : _KEY_AT + 4 + length]
    if not blob.startswith(_MAGIC) or len(key) != length:
        return ""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")
