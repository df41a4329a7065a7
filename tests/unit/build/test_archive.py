# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""If these fail, packages come from another archive than Debian's, or without security updates, or none come."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils import archive
from ansible_collections.kpatch.fleet.plugins.module_utils.archive import ArchiveError

MAIN = "http://mirror.example/debian/ bookworm main Debian\n"
SECURITY = "http://mirror.example/debian-security/ bookworm-security main Debian\n"
OTHERS = (
    "http://mirror.example/debian/ trixie main Debian\n"
    "http://vendor.example/apt/ bookworm main Vendor\n"
    "http://vendor.example/apt/ bookworm\n"
)

# Answers like apt-get, apt-cache and apt-config, and notes how it was called.
FAKE = """#!/bin/sh
echo "$(basename "$0") $* ${{APT_CONFIG:+$(basename "$(dirname "$APT_CONFIG")")}}" >> {log}
case "$*" in
    indextargets*) cat {targets};;
    policy*) echo "  Candidate: 1.2-3";;
    dump) echo 'Acquire::Retries "3";';;
    *update) [ ! -e {broken} ] || {{ echo "E: no such mirror" >&2; exit 100; }};;
esac
"""


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with `log`, how apt was called; `targets`, what it offers; and `broken`, if it can't update."""
    (tmp_path / "targets").write_text(MAIN + SECURITY)
    text = FAKE.format(log=tmp_path / "log", targets=tmp_path / "targets", broken=tmp_path / "broken")
    for name in ("apt-get", "apt-cache", "apt-config"):
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    return tmp_path


def calls(apt: Path) -> list[str]:
    return [line.strip() for line in (apt / "log").read_text().splitlines()]


def test_only_debians_own_releases_of_the_suite_are_taken() -> None:
    known = archive.debian_targets(MAIN + OTHERS + SECURITY + MAIN)
    lines = archive.Archive("bookworm", archive.select_targets(known, "bookworm"), None).sources().splitlines()
    assert lines == [
        f"deb [signed-by={archive.KEYRING}] http://mirror.example/debian/ bookworm main",
        f"deb [signed-by={archive.KEYRING}] http://mirror.example/debian-security/ bookworm-security main",
    ]


def test_a_suite_without_its_security_updates_is_not_offered() -> None:
    assert archive.select_targets(archive.debian_targets(MAIN), "bookworm") == []


def test_the_machines_own_suite_is_asked_of_its_apt(apt: Path) -> None:
    assert archive.open_archive(apt / "cache", "bookworm").candidate("linux-image") == "1.2-3"
    assert calls(apt)[-1] == "apt-cache policy linux-image"
    assert not (apt / "cache").exists()


def test_another_suite_comes_from_the_same_mirrors_and_has_its_own_lists(apt: Path) -> None:
    forky = archive.open_archive(apt / "cache", "forky")
    assert forky.candidate("linux-image") == "1.2-3"
    assert calls(apt)[-2:] == ["apt-get -q --error-on=any update forky", "apt-cache policy linux-image forky"]
    home = apt / "cache/archives/forky"
    assert "http://mirror.example/debian-security/ forky-security main" in (home / "sources.list").read_text()
    config = (home / "apt.conf").read_text()
    assert 'Acquire::Retries "3";' in config
    assert 'Acquire::Check-Valid-Until "false";' in config
    assert 'Check-Valid-Until "false"' not in archive.open_archive(apt / "cache", "trixie").settings()


def test_lists_are_fetched_once_a_day(apt: Path) -> None:
    forky = archive.open_archive(apt / "cache", "forky")
    for expected in (1, 1):
        forky.candidate("linux-image")
        assert sum("update" in call for call in calls(apt)) == expected
    os.utime(apt / "cache/archives/forky/updated", (0, 0))
    forky.candidate("linux-image")
    assert sum("update" in call for call in calls(apt)) == 2


def test_lists_that_were_not_fetched_are_not_taken_for_there(apt: Path) -> None:
    (apt / "broken").touch()
    forky = archive.open_archive(apt / "cache", "forky")
    for _attempt in range(2):
        with pytest.raises(ArchiveError, match="no such mirror"):
            forky.candidate("linux-image")


def test_a_machine_without_debians_mirrors_is_told_so(apt: Path) -> None:
    (apt / "targets").write_text(OTHERS)
    with pytest.raises(ArchiveError, match="no mirror of Debian"):
        archive.open_archive(apt / "cache", "forky")
