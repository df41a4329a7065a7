# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Signatures of manifests: SSH signatures, made and verified by ssh-keygen(1), which every host managed by ssh has.

A file of allowed signers is the policy: where it is, only what one of them has signed is taken. It names keys as
ssh-keygen(1) says, with the principal "kpatch.fleet":

    kpatch.fleet namespaces="kpatch.fleet" ssh-ed25519 AAAA…

What is signed is the manifest's one textual form; the manifest holds the digest of the module.
"""

# run_command(), which pylint would have, is AnsibleModule's; this runs without one, too.
# pylint: disable=ansible-bad-function
from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

NAME = "manifest.json.sig"
ALLOWED = "allowed_signers"
_NAMESPACE = "kpatch.fleet"
_TIMEOUT = 60


class SignatureError(Exception):
    """Something is not signed as it has to be, or can't be signed; the text names it and the mend."""


def sign(text: str, key: Path) -> str:
    """The signature of *text* by the private key in the file *key*, or by ssh-agent if that is a public one."""
    if not key.is_file():
        raise SignatureError(f"{key}: there is no such key; make one with: ssh-keygen -t ed25519 -f {key}")
    done = _ssh_keygen(["-Y", "sign", "-f", str(key), "-n", _NAMESPACE], text)
    if done.returncode != 0:
        raise SignatureError(
            f"{key}: can't sign with it: {_said(done)}; a key with a passphrase has to be in ssh-agent"
        )
    return done.stdout


def verify(text: str, signature: str | None, allowed: Path, what: str) -> None:
    """Raise SignatureError unless *allowed* is not there, or one of its keys has signed *text*; *what* names that."""
    try:
        allowed.stat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise SignatureError(f"{allowed}: can't be read: {error.strerror}") from error
    if not signature:
        raise SignatureError(
            f"{what} is not signed, and {allowed} is there: sign it (option signing_key of patch_build and core_build)"
        )
    with tempfile.NamedTemporaryFile("w", suffix=".sig") as stream:
        stream.write(signature)
        stream.flush()
        options = ["-Y", "verify", "-f", str(allowed), "-I", _NAMESPACE, "-n", _NAMESPACE, "-s", stream.name]
        done = _ssh_keygen(options, text)
    if done.returncode != 0:
        raise SignatureError(
            f"{what}: its signature is not one of {allowed}: {_said(done)}; sign it with a key that is allowed, or "
            "build it again if it was changed"
        )


def _ssh_keygen(options: list[str], given: str) -> subprocess.CompletedProcess[str]:
    command = ["ssh-keygen", *options]
    try:
        return subprocess.run(command, input=given, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    except FileNotFoundError as error:
        raise SignatureError("ssh-keygen is not installed; install openssh-client") from error
    except subprocess.TimeoutExpired as error:
        raise SignatureError(
            f"ssh-keygen gave no answer in {_TIMEOUT} s; is ssh-agent waiting for somebody?"
        ) from error


def _said(done: subprocess.CompletedProcess[str]) -> str:
    return " ".join((done.stderr + done.stdout).split()) or f"status {done.returncode}"
