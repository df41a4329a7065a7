# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which key a manifest was signed with, as ssh-keygen -l prints it; whether that key may sign is judged elsewhere."""

from __future__ import annotations

import base64
import hashlib
import struct
from pathlib import Path

from ansible_collections.kpatch.fleet.plugins.module_utils.signature import NAME

# PROTOCOL.sshsig of OpenSSH: the magic, a version, and the public key as a string with its length before it.
_MAGIC = b"SSHSIG"
_KEY_AT = len(_MAGIC) + 4


def fingerprint(directory: Path) -> str:
    """The fingerprint of the key, or nothing if the manifest in *directory* has no signature that can be read."""
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
