# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel refuses to load a module: each test's first line is the fault, the rest the invariant."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from machine import DEMO, Machine

# kernel/module_signing.c
_MARK = b"~Module signature appended~\n"
_PKCS7 = 2

Change = Callable[[bytes, dict[str, Any]], bytes]


def with_changed(machine: Machine, scratch: Path, names: Iterable[str], change: Change) -> Path:
    """A copy of the store in which the .ko and the manifests of *names* are changed, so that they agree."""
    store = scratch / "store"
    shutil.copytree(machine.store, store, symlinks=True)
    for name in names:
        place = (store / machine.run("uname -r").strip() / name / "current").resolve()
        manifest = json.loads((place / "manifest.json").read_text())
        image = change((place / manifest["file"]).read_bytes(), manifest)
        (place / manifest["file"]).write_bytes(image)
        manifest.update(sha256=hashlib.sha256(image).hexdigest(), size=len(image))
        (place / "manifest.json").write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n")
    return store


def refused(machine: Machine, reason: str, **values: Any) -> str:
    """A rollout that has to be refused for *reason*; what the report says. No patch is on or left."""
    status, _text = machine.rollout(**values)
    assert (status, machine.state()) == (2, "apply-failed")
    # The core module, which comes first, may be on by then.
    assert machine.modules() in ([], ["kpatch"])
    assert machine.run("find /var/lib/kpatch.fleet -name '*demo*' 2> /dev/null; :") == ""
    said = str(machine.report()["reason"])
    assert f"{reason}: " in said
    return said


def signed_by_a_stranger(scratch: Path) -> Change:
    """Signs as scripts/sign-file does, with a key that no kernel knows."""

    def change(image: bytes, _manifest: dict[str, Any]) -> bytes:
        key, certificate, plain = (scratch / name for name in ("key.pem", "certificate.pem", "plain"))
        plain.write_bytes(image)
        made = ["openssl", "req", "-new", "-x509", "-nodes", "-newkey", "rsa:2048", "-subj", "/CN=a stranger"]
        subprocess.run([*made, "-keyout", key, "-out", certificate], check=True, capture_output=True)
        signing = ["openssl", "cms", "-sign", "-binary", "-noattr", "-nocerts", "-outform", "DER", "-md", "sha256"]
        signature = subprocess.run(
            [*signing, "-in", plain, "-signer", certificate, "-inkey", key], check=True, capture_output=True
        ).stdout
        return image + signature + struct.pack(">BBBBB3xI", 0, 0, _PKCS7, 0, 0, len(signature)) + _MARK

    return change


@pytest.mark.fault("vm-vermagic")
def test_vermagic(machine: Machine, tmp_path: Path) -> None:
    """A module was compiled for a kernel of the same release that is configured otherwise; its manifest agrees with it.
    The kernel refuses it, the reason says so, and no patch is on.
    """

    def change(image: bytes, manifest: dict[str, Any]) -> bytes:
        manifest["kernel"]["vermagic"] = manifest["kernel"]["vermagic"].replace("mod_unload", "mod_XXload")
        return image.replace(b" mod_unload ", b" mod_XXload ")

    said = refused(
        machine, "wrong-vermagic", kpatch_store=str(with_changed(machine, tmp_path, ["demo-meminfo"], change))
    )
    assert "version magic" in said


@pytest.mark.fault("vm-missing-symbol")
def test_missing_symbol(machine: Machine, tmp_path: Path) -> None:
    """A module needs a symbol that the kernel does not have.
    The kernel refuses it, the reason names the symbol, and no patch is on.
    """

    def change(image: bytes, _manifest: dict[str, Any]) -> bytes:
        assert b"kpatch_register\0" in image
        return image.replace(b"kpatch_register\0", b"kpatch_registes\0")

    said = refused(machine, "load-failed", kpatch_store=str(with_changed(machine, tmp_path, ["demo-meminfo"], change)))
    assert "Unknown symbol kpatch_registes" in said


@pytest.mark.fault("vm-signature")
def test_signature(spent: Machine, tmp_path: Path) -> None:
    """The kernel takes signed modules only; ours are unsigned, or signed with a key that it does not know.
    Unsigned ones are refused before the load, strange ones by the kernel; the reason says which, and nothing is on.
    """
    spent.run("echo Y > /sys/module/module/parameters/sig_enforce")
    assert "module.sig_enforce=1" in refused(spent, "signature")
    store = with_changed(spent, tmp_path, ["kpatch", *DEMO], signed_by_a_stranger(tmp_path))
    said = refused(spent, "signature", kpatch_store=str(store))
    assert "enrol the key" in said
    assert "Loading of module with unavailable key is rejected" in said


@pytest.mark.fault("vm-lockdown")
def test_lockdown(spent: Machine) -> None:
    """The kernel is locked down.
    It is refused before the load, the reason says so, and nothing is on.
    """
    spent.run("mountpoint -q /sys/kernel/security || mount -t securityfs none /sys/kernel/security")
    spent.run("echo integrity > /sys/kernel/security/lockdown")
    assert "locked down (integrity)" in refused(spent, "lockdown")
