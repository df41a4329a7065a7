# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that names who may sign. If this breaks, it loads what nobody it trusts has signed."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils import signature
from ansible_collections.kpatch.fleet.plugins.module_utils.host import boot
from ansible_collections.kpatch.fleet.plugins.module_utils.host.errors import HostError
from ansible_collections.kpatch.fleet.plugins.module_utils.host.parts import Part
from ansible_collections.kpatch.fleet.plugins.module_utils.host.staging import Staging
from ansible_collections.kpatch.fleet.plugins.module_utils.host.state import read_host
from ansible_collections.kpatch.fleet.plugins.module_utils.host.transition import Transition
from ansible_collections.kpatch.fleet.plugins.module_utils.manifest import dump
from fake_host import RELEASE, remove


@pytest.fixture
def key(ready: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key that the host allows."""
    path = tmp_path_factory.mktemp("key") / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    policy = ready.root / "etc/kpatch.fleet/allowed_signers"
    policy.parent.mkdir(parents=True)
    policy.write_text(f"kpatch.fleet {Path(f'{path}.pub').read_text()}")
    return path


def transition(ready: Any, manifest: dict[str, Any], src: Path, given: str | None) -> Transition:
    part = Part("a", "enabled", manifest, src, given)
    return Transition(ready.root, ready, read_host(ready.root), part, 0.0)


def test_only_a_signed_artifact_is_loaded(ready: Any, key: Path) -> None:
    manifest, src = ready.artifact("a")
    with pytest.raises(HostError) as caught:
        transition(ready, manifest, src, None).reach()
    assert caught.value.reason == "signature"
    assert ready.calls == []
    assert transition(ready, manifest, src, signature.sign(dump(manifest), key)).reach()[1]["state"] == "enabled"


def test_the_signature_of_another_manifest_does_not_count(ready: Any, key: Path) -> None:
    manifest, src = ready.artifact("a")
    with pytest.raises(HostError, match="not one of"):
        transition(ready, manifest, src, signature.sign(dump({**manifest, "size": 1}), key)).reach()


def test_at_boot_only_what_is_signed_comes_back(ready: Any, key: Path) -> None:
    manifest, src = ready.artifact("a")
    transition(ready, manifest, src, signature.sign(dump(manifest), key)).reach()
    staging = Staging(ready.root, RELEASE)
    staging.keep_enabled("kpatch", False)
    remove(ready.root / "sys/kernel/kpatch/patches/kpatch_a")
    remove(ready.root / "sys/module/kpatch_a")
    boot.put_on(ready.root, ready, 0)
    assert ready.calls[-1] == "load kpatch_a SRC1"
    for module in ("kernel/kpatch/patches", "module"):
        remove(ready.root / "sys" / module / "kpatch_a")
    (staging.directory / "kpatch_a.sig").unlink()
    ready.calls.clear()
    with pytest.raises(HostError, match="not signed"):
        boot.put_on(ready.root, ready, 0)
    assert ready.calls == []


def test_what_was_staged_comes_back_only_with_its_signature(ready: Any, key: Path) -> None:
    manifest, src = ready.artifact("a")
    way = transition(ready, manifest, src, signature.sign(dump(manifest), key))
    way.reach()
    with way.staging.published_artifact("kpatch_a"):
        pass
    (way.staging.directory / "kpatch_a.sig").unlink()
    with pytest.raises(HostError, match="not signed"), way.staging.published_artifact("kpatch_a"):
        pass
