# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Signs kernel modules in the kernel's own format, with a key and a certificate of the operator's.

The format is Documentation/admin-guide/module-signing.rst's: behind the module a PKCS#7 signature of all before it,
detached, without attributes and certificates, then a ``struct module_signature`` and a mark. openssl(1) makes the
signature, as the kernel's own scripts/sign-file does by the same library. Nothing may change the file afterwards.

With an RSA key the same module has the same signature each time; an ECDSA signature is another one each time.
"""

from __future__ import annotations

import re
import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import BuildError
from ansible_collections.kpatch.fleet.plugins.module_utils.build.run import run
from ansible_collections.kpatch.fleet.plugins.module_utils.build.tree import Tree

MARK = b"~Module signature appended~\n"
_INFO = struct.Struct(">BBBBB3xI")  # include/linux/module_signature.h: algo, hash, id_type, two lengths, size
_PKCS7 = 2
_FALLBACK_HASH = "sha256"
_SUBJECT = re.compile(r"^subject=(.*)$", re.MULTILINE)
_SERIAL = re.compile(r"^serial=([0-9A-F]+)$", re.MULTILINE)
_KEY_ID = re.compile(r"X509v3 Subject Key Identifier:\s*\n\s*([0-9A-F:]+)")


@dataclass(frozen=True)
class ModuleSigner:
    """A private key, and the certificate by which kernels trust it: files on the builder."""

    key: Path
    certificate: Path

    @classmethod
    def of(cls, key: str | None, certificate: str | None) -> ModuleSigner | None:
        """From options that come together or not at all."""
        return cls(Path(key), Path(certificate)) if key and certificate else None

    def check(self) -> None:
        """Raise BuildError if nothing can be signed with it: told before the build, not after."""
        for path, what in ((self.key, "key"), (self.certificate, "certificate")):
            if not path.is_file():
                raise BuildError(f"{path}: there is no such {what} to sign modules with on the builder; see {_DOCS}")
        with tempfile.TemporaryDirectory(prefix="kpatch-sign-") as scratch:
            self._signature(Path("/dev/null"), _FALLBACK_HASH, Path(scratch))

    @property
    def identity(self) -> dict[str, str]:
        """The signer as the manifest names it, the key's id being what the kernel's keyrings call it."""
        told = self._openssl(
            *("x509", "-in", self.certificate, "-noout", "-subject", "-serial", "-ext", "subjectKeyIdentifier")
        )
        subject, serial, key_id = _SUBJECT.search(told), _SERIAL.search(told), _KEY_ID.search(told)
        found = key_id or serial
        if subject is None or found is None:
            raise BuildError(f"{self.certificate}: openssl tells no subject and no key identifier of it; see {_DOCS}")
        return {"subject": subject[1].strip(), "key_id": found[1].replace(":", "").lower()}

    @property
    def digest(self) -> str:
        """The certificate's sha256, which stands for the signer among the inputs of an artifact."""
        told = self._openssl("x509", "-in", self.certificate, "-noout", "-fingerprint", "-sha256")
        return told.split("=", 1)[1].strip().replace(":", "").lower()

    def sign(self, module: Path, tree: Tree) -> None:
        """Append the signature to *module*, with the digest that the kernel's own modules have."""
        algorithm = tree.config().get("CONFIG_MODULE_SIG_HASH") or _FALLBACK_HASH
        with tempfile.TemporaryDirectory(prefix="kpatch-sign-") as scratch:
            signature = self._signature(module, algorithm, Path(scratch))
        with module.open("ab") as stream:
            stream.write(signature + _INFO.pack(0, 0, _PKCS7, 0, 0, len(signature)) + MARK)

    def _signature(self, what: Path, algorithm: str, scratch: Path) -> bytes:
        out = scratch / "signature"
        self._openssl(
            *("cms", "-sign", "-binary", "-noattr", "-nocerts", "-md", algorithm, "-outform", "DER"),
            # With a passphrase given it asks no terminal for one.
            *("-passin", "pass:", "-signer", self.certificate, "-inkey", self.key, "-in", what, "-out", out),
        )
        return out.read_bytes()

    def _openssl(self, *arguments: str | Path) -> str:
        try:
            return run(["openssl", *arguments])
        except BuildError as error:
            raise BuildError(
                f"modules can't be signed with the key {self.key} and the certificate {self.certificate}: {error}; "
                f"they have to belong together, and the key must have no passphrase; see {_DOCS}"
            ) from error


_DOCS = "docs/signing.md"
