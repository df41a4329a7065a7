# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A store and an order that the tests of the rollout begin with."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.kpatch.fleet.plugins.plugin_utils.plan import Order
from rollout_facts import put


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with the core module and the patch 'fix'."""
    for name in ("kpatch", "fix"):
        put(tmp_path, name)
    return tmp_path


@pytest.fixture
def order(store: Path) -> Order:
    return Order("applied", [{"name": "fix"}], store)
