# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""If this breaks, whoever puts an old, validly signed artifact into the store has the fleet go back to it."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kpatch.fleet.plugins.plugin_utils import history
from ansible_collections.kpatch.fleet.plugins.plugin_utils.errors import FleetError

OLD, NEW = 1_700_000_000, 1_800_000_000


def plan(serial: int | None, release: str = "6.1") -> dict[str, Any]:
    one = {} if serial is None else {"serial": serial}
    return {"kernels": {release: {"artifacts": {"a": one}, "made": {"a": {"build_id": "ab"}}}}}


def planned(home: Path, serial: int) -> None:
    history.keep(home, history.check(home, plan(serial), False))


@pytest.mark.parametrize("old", [OLD, None])
def test_old_signed_artifact_in_the_store_is_refused(tmp_path: Path, old: int | None) -> None:
    planned(tmp_path, NEW)
    with pytest.raises(FleetError, match="kpatch_a for 6.1 .* nothing was touched"):
        history.check(tmp_path, plan(old), False)
    history.check(tmp_path, plan(NEW), False)
    history.check(tmp_path, plan(old, "6.12"), False)


def test_going_back_on_purpose_is_not_going_back_for_good(tmp_path: Path) -> None:
    planned(tmp_path, NEW)
    history.keep(tmp_path, history.check(tmp_path, plan(OLD), True))
    with pytest.raises(FleetError):
        history.check(tmp_path, plan(OLD), False)


def test_memory_that_is_damaged_is_no_empty_one(tmp_path: Path) -> None:
    (tmp_path / history.FILE).write_text("{")
    with pytest.raises(FleetError, match="remove it to begin anew"):
        history.check(tmp_path, plan(NEW), False)


def test_it_is_its_owners_alone(tmp_path: Path) -> None:
    planned(tmp_path, NEW)
    assert stat.S_IMODE((tmp_path / history.FILE).stat().st_mode) == 0o600
