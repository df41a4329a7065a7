# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""If this breaks, two rollouts change one fleet, or a dead one keeps it for ever."""

from __future__ import annotations

import json
import subprocess
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kpatch.fleet.plugins.plugin_utils import lease
from ansible_collections.kpatch.fleet.plugins.plugin_utils.errors import FleetError

NOW = datetime(2026, 11, 2, tzinfo=timezone.utc)


def other(home: Path, **changes: Any) -> None:
    """The lease of somebody else."""
    lease.take(home, "theirs", 0, NOW)
    held = json.loads((home / lease.FILE).read_text())
    (home / lease.FILE).write_text(json.dumps({**held, **changes}))


def test_one_run_takes_keeps_and_gives_back(tmp_path: Path) -> None:
    lease.take(tmp_path, "mine", 0)
    lease.take(tmp_path, "mine", 0)
    assert lease.check(tmp_path, "mine") == ""
    assert "lost to" in lease.check(tmp_path, "other")
    lease.release(tmp_path, "other")
    lease.release(tmp_path, "mine")
    assert lease.read(tmp_path) is None
    assert "gone" in lease.check(tmp_path, "mine")


@pytest.mark.parametrize(("later", "until"), [(449, 1000), (451, 1451)])
def test_long_batch_keeps_it(tmp_path: Path, later: int, until: int) -> None:
    """On another machine it would be over at its expiry, though its owner is at work."""
    lease.take(tmp_path, "mine", 100, NOW)
    lease.keep_up(tmp_path, "mine", 100, NOW + timedelta(seconds=later))
    held = lease.read(tmp_path)
    assert held
    assert datetime.fromisoformat(held.expires) == NOW + timedelta(seconds=until)


def test_what_is_lost_is_not_kept_up(tmp_path: Path) -> None:
    other(tmp_path, machine="elsewhere/boot")
    before = (tmp_path / lease.FILE).read_text()
    lease.keep_up(tmp_path, "theirs", 0, NOW + timedelta(days=1))
    assert (tmp_path / lease.FILE).read_text() == before
    (tmp_path / lease.FILE).unlink()
    lease.keep_up(tmp_path, "theirs", 0, NOW)
    assert lease.read(tmp_path) is None


def test_another_run_is_told_who_has_it(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        other(tmp_path, pid=process.pid, started=lease._started(process.pid))
        with pytest.raises(FleetError, match=f"process {process.pid}.*rollout theirs"):
            lease.take(tmp_path, "mine", 0, NOW)
        process.kill()
    lease.take(tmp_path, "mine", 0, NOW)


def test_another_process_with_the_number_of_a_dead_one_has_no_lease(tmp_path: Path) -> None:
    other(tmp_path, started="1")
    lease.take(tmp_path, "mine", 0, NOW)


def test_another_machines_lease_expires(tmp_path: Path) -> None:
    other(tmp_path, machine="elsewhere/boot")
    with pytest.raises(FleetError, match="elsewhere"):
        lease.take(tmp_path, "mine", 0, NOW + timedelta(seconds=899))
    lease.take(tmp_path, "mine", 0, NOW + timedelta(seconds=900))


@pytest.mark.parametrize("text", ["", "[]", '{"rollout": "x"}'])
def test_lease_that_can_not_be_read_is_not_passed_over(tmp_path: Path, text: str) -> None:
    (tmp_path / lease.FILE).write_text(text)
    with pytest.raises(FleetError, match="remove it if no rollout is under way"):
        lease.take(tmp_path, "mine", 0)
