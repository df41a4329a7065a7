# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernel modules' signatures. If this breaks, kernels that insist on them refuse every module of ours."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import BuildError
from ansible_collections.kpatch.fleet.plugins.module_utils.build.module_signature import MARK, ModuleSigner
from ansible_collections.kpatch.fleet.plugins.module_utils.host.elf import is_signed

MODULE = b"\x7fELF and what else a module has\n" * 100
_MESSAGE_DIGEST = bytes.fromhex("2a864886f70d010904")


def signer(tmp_path: Path, name: str, *options: str) -> ModuleSigner:
    """A key and its certificate, as docs/signing.md makes them."""
    key, certificate = tmp_path / f"{name}.key", tmp_path / f"{name}.pem"
    subprocess.run(
        ["openssl", "req", "-new", "-x509", "-newkey", "rsa:2048", "-nodes", "-sha256", "-days", "30"]
        + ["-subj", f"/CN={name}", "-addext", "keyUsage=digitalSignature", *options]
        + ["-keyout", str(key), "-out", str(certificate)],
        check=True,
        capture_output=True,
    )
    return ModuleSigner(key, certificate)


def tree(algorithm: str = "sha256") -> Any:
    return SimpleNamespace(config=lambda: {"CONFIG_MODULE_SIG_HASH": algorithm})


def signed(tmp_path: Path, by: ModuleSigner, algorithm: str = "sha256") -> bytes:
    module = tmp_path / "some.ko"
    module.write_bytes(MODULE)
    by.sign(module, tree(algorithm))
    return module.read_bytes()


def verified(tmp_path: Path, image: bytes, certificate: Path) -> bool:
    """Whether openssl finds the signature to be one of *certificate*'s key over all before it."""
    assert image.endswith(MARK)
    info = image[-len(MARK) - 12 : -len(MARK)]
    algo, digest, kind, signer_length, key_length, size = struct.unpack(">BBBBB3xI", info)
    assert (algo, digest, kind, signer_length, key_length) == (0, 0, 2, 0, 0)
    end = len(image) - len(MARK) - len(info)
    (tmp_path / "signature").write_bytes(image[end - size : end])
    (tmp_path / "payload").write_bytes(image[: end - size])
    done = subprocess.run(
        ["openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", str(tmp_path / "signature")]
        + ["-content", str(tmp_path / "payload"), "-certfile", str(certificate), "-CAfile", str(certificate)]
        + ["-purpose", "any", "-out", "/dev/null"],
        capture_output=True,
        check=False,
    )
    return done.returncode == 0


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_openssl_verifies_what_is_before_the_signature(tmp_path: Path, algorithm: str) -> None:
    mine, other = signer(tmp_path, "mine"), signer(tmp_path, "other")
    image = signed(tmp_path, mine, algorithm)
    assert image.startswith(MODULE)
    assert is_signed(image)
    assert _MESSAGE_DIGEST not in image  # of signed attributes, which would hold the time, too
    assert verified(tmp_path, image, mine.certificate)
    assert not verified(tmp_path, image, other.certificate)
    assert not verified(tmp_path, image.replace(b"what", b"That", 1), mine.certificate)


def test_the_same_module_has_the_same_signature_each_time(tmp_path: Path) -> None:
    mine = signer(tmp_path, "mine")
    assert signed(tmp_path, mine) == signed(tmp_path, mine)


def test_the_signer_is_named_as_the_kernels_keyrings_name_it(tmp_path: Path) -> None:
    mine = signer(tmp_path, "mine").identity
    assert mine["subject"].replace(" ", "") == "CN=mine"
    assert len(mine["key_id"]) == 40
    bare = signer(tmp_path, "bare", "-set_serial", "0xabcdef", "-addext", "subjectKeyIdentifier=none")
    assert bare.identity["key_id"] == "abcdef"


def test_what_cannot_sign_is_told_before_the_build(tmp_path: Path) -> None:
    mine, other = signer(tmp_path, "mine"), signer(tmp_path, "other")
    mine.check()
    with pytest.raises(BuildError, match="belong together"):
        ModuleSigner(mine.key, other.certificate).check()
    with pytest.raises(BuildError, match=r"nothing\.key: there is no such key"):
        ModuleSigner(tmp_path / "nothing.key", mine.certificate).check()
    with pytest.raises(BuildError, match=r"nothing\.pem: there is no such certificate"):
        ModuleSigner(mine.key, tmp_path / "nothing.pem").check()


def test_a_key_with_a_passphrase_is_refused_without_asking(tmp_path: Path) -> None:
    mine = signer(tmp_path, "mine")
    locked = tmp_path / "locked.key"
    command = ["openssl", "rsa", "-in", str(mine.key), "-aes128", "-passout", "pass:secret", "-out", str(locked)]
    subprocess.run(command, check=True, capture_output=True)
    with pytest.raises(BuildError, match="no passphrase"):
        ModuleSigner(locked, mine.certificate).check()
