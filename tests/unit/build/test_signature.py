# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Signatures. If this breaks, a host loads what nobody has signed, or what was changed afterwards."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils.signature import SignatureError, sign, verify

TEXT = '{"name": "some"}\n'


def key(tmp_path: Path, name: str) -> Path:
    path = tmp_path / name
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path


def allowed(tmp_path: Path, *keys: Path) -> Path:
    path = tmp_path / "allowed_signers"
    public = (Path(f"{each}.pub").read_text() for each in keys)
    path.write_text("".join(f'kpatch.fleet namespaces="kpatch.fleet" {line}' for line in public))
    return path


def test_only_what_an_allowed_key_has_signed_is_taken(tmp_path: Path) -> None:
    mine, other = key(tmp_path, "mine"), key(tmp_path, "other")
    policy = allowed(tmp_path, mine)
    signature = sign(TEXT, mine)
    verify(TEXT, signature, policy, "it")
    assert sign(TEXT, mine) == signature
    with pytest.raises(SignatureError, match="not one of"):
        verify(TEXT, sign(TEXT, other), policy, "it")
    with pytest.raises(SignatureError, match="not one of"):
        verify(TEXT.replace("some", "none"), signature, policy, "it")
    with pytest.raises(SignatureError, match="not one of"):
        verify(TEXT, "no signature", policy, "it")
    with pytest.raises(SignatureError, match="it is not signed"):
        verify(TEXT, None, policy, "it")


def test_another_purpose_of_the_same_key_does_not_count(tmp_path: Path) -> None:
    mine = key(tmp_path, "mine")
    done = subprocess.run(
        ["ssh-keygen", "-Y", "sign", "-f", mine, "-n", "git"], input=TEXT, capture_output=True, text=True, check=True
    )
    with pytest.raises(SignatureError, match="not one of"):
        verify(TEXT, done.stdout, allowed(tmp_path, mine), "it")


def test_without_a_policy_nothing_is_asked_for(tmp_path: Path) -> None:
    verify(TEXT, None, tmp_path / "nothing", "it")


def test_an_empty_policy_allows_nobody(tmp_path: Path) -> None:
    with pytest.raises(SignatureError):
        verify(TEXT, sign(TEXT, key(tmp_path, "mine")), allowed(tmp_path), "it")


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(SignatureError, match="ssh-keygen -t ed25519"):
        sign(TEXT, tmp_path / "nothing")
