# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Signed kernel modules, held against the kernel's own tool, and loaded.

If these fail, a kernel that insists on signatures takes no module of ours.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils.build.module_signature import MARK, ModuleSigner
from ansible_collections.kpatch.fleet.plugins.module_utils.build.run import run
from builder import Builder
from host import Host

_INFO = 12  # struct module_signature
DEMO = Path(__file__).parents[2] / "playbooks/files/demo/demo-meminfo.patch"


@pytest.fixture
def signer(tmp_path: Path) -> ModuleSigner:
    key, certificate = tmp_path / "modules.key", tmp_path / "modules.pem"
    subprocess.run(
        ["openssl", "req", "-new", "-x509", "-newkey", "rsa:2048", "-nodes", "-sha256", "-days", "30"]
        + ["-subj", "/CN=kpatch.fleet test", "-addext", "keyUsage=digitalSignature"]
        + ["-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
    )
    return ModuleSigner(key, certificate)


def unsigned(image: bytes) -> bytes:
    """The module before its signature, whose size is the last number before the mark."""
    end = len(image) - len(MARK)
    return image[: end - _INFO - int.from_bytes(image[end - 4 : end], "big")]


def signed_by_the_kernels_tool(builder: Builder, signer: ModuleSigner, image: bytes, scratch: Path) -> bytes:
    """*image* as scripts/sign-file of the kernel's build signs it."""
    module = scratch / "theirs.ko"
    module.write_bytes(image)
    algorithm = builder.tree.config()["CONFIG_MODULE_SIG_HASH"]
    run([builder.tree.objects / "scripts/sign-file", algorithm, signer.key, signer.certificate, module])
    return module.read_bytes()


def test_a_signed_core_module_is_what_the_kernels_own_tool_makes(
    builder: Builder, signer: ModuleSigner, tmp_path: Path
) -> None:
    if not builder.kernel.release.startswith("5.10"):  # its sign-file wants OpenSSL 1.1, which only bullseye has
        result = builder.core(signer)
        assert result.path is not None
        signed = (result.path / "kpatch.ko").read_bytes()
        assert signed_by_the_kernels_tool(builder, signer, unsigned(signed), tmp_path) == signed


def test_a_signed_patch_module_loads(host: Host, builder: Builder, signer: ModuleSigner) -> None:
    builder.core()
    diff = DEMO.read_text(encoding="utf-8")
    result = builder.patch("demo-meminfo", diff, signer=signer)
    assert result.manifest is not None
    assert result.path is not None
    assert result.manifest["signer"]["subject"].endswith("kpatch.fleet test")
    assert not builder.patch("demo-meminfo", diff, signer=signer).changed
    signed = result.path / result.manifest["file"]
    host.send([signed])
    host.load("kpatch_demo_meminfo")
    assert "KpatchDemo" in host.read("/proc/meminfo")
    assert host.set(result.manifest["loaded_as"], 0)
    host.unload(result.manifest["loaded_as"])
