# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the builder's tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from object_files import Pair


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    """A workshop in a directory of its own."""
    return Pair(tmp_path)
