# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fake hosts, ready for the tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils.host import transition
from fake_host import FakeHost


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    """A host with nothing of ours on it."""
    fake = FakeHost(tmp_path)
    monkeypatch.setattr(transition, "_write", fake.write)
    monkeypatch.setattr(transition, "_FIRST_PAUSE", 0.001)
    return fake


@pytest.fixture
def ready(host: FakeHost) -> FakeHost:
    """The same with the core module loaded."""
    host.transition("kpatch", "loaded", *host.artifact("kpatch", "core")).reach()
    host.calls.clear()
    return host
