# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger survives what happens to a controller: kills, full disks, writers side by side."""

from __future__ import annotations

from multiprocessing import Pool
from pathlib import Path

import pytest
from ansible_collections.kpatch.fleet.plugins.plugin_utils import ledger
from ansible_collections.kpatch.fleet.plugins.plugin_utils.errors import FleetError


def _many(path: Path) -> None:
    for number in range(50):
        ledger.append(path, "host", host=f"h{number}", state="applied", reason="x" * 3000)


def test_writers_side_by_side_do_not_mix_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    with Pool(4) as pool:
        pool.map(_many, [path] * 4)
    found = ledger.read(path)
    assert (len(found.entries), found.damaged) == (200, [])


def test_torn_line_is_named_and_the_next_entry_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    ledger.append(path, "host", host="a", state="applied", reason="")
    path.write_bytes(path.read_bytes() + b'{"event": "ho')
    ledger.append(path, "host", host="b", state="lost", reason="")
    found = ledger.read(path)
    assert list(found.outcomes()) == ["a", "b"]
    assert len(found.damaged) == 1
    assert "line 2" in found.damaged[0]


@pytest.mark.parametrize("line", ["[]", "1", '{"event": 1}', '{"event": "host", "host": "a"}', '{"event": "begin"}'])
def test_line_that_is_no_entry_is_damage(tmp_path: Path, line: str) -> None:
    (tmp_path / "ledger").write_text(line + "\n")
    assert ledger.read(tmp_path / "ledger").damaged


def test_place_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(FleetError, match="missing/ledger: the ledger can't be written"):
        ledger.append(tmp_path / "missing/ledger", "plan")


def test_host_that_is_taken_up_again_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    for host in ("a", "b"):
        ledger.append(path, "begin", host=host)
        ledger.append(path, "host", host=host, state="lost", reason="")
    ledger.append(path, "undone", host="a", state="absent", reason="")
    ledger.append(path, "resume", hosts=["a"], appeared=[], vanished=["c"])
    found = ledger.read(path)
    assert (list(found.outcomes()), found.begun(), found.undone(), found.vanished()) == (["b"], {"b"}, {}, ["c"])
