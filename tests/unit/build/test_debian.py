# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which packages are downloaded. If this breaks, they are downloaded anew, or an operator waits and isn't told why."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils.archive import Archive
from ansible_collections.kpatch.fleet.plugins.module_utils.build import debian
from ansible_collections.kpatch.fleet.plugins.module_utils.build.identity import Identity

KERNEL = Identity("6.12.117+deb12-amd64", "#1 SMP Debian 6.12.117-1~deb12u1 (2026-11-14)", "00")


class Shelf(Archive):
    """Has every package, and nothing is in it."""

    def download(self, name: str, version: str, directory: Path) -> None:
        (directory / f"{name}_{version}_amd64.deb").touch()


@pytest.mark.parametrize("depends", ["linux-kbuild-6.12", f"linux-kbuild-6.12, linux-modules-{KERNEL.release}"])
def test_a_download_is_told_where_a_package_is_lacking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, depends: str
) -> None:
    monkeypatch.setattr(debian, "open_archive", lambda _cache, suite: Shelf(suite, [], None))
    monkeypatch.setattr(debian, "run", lambda _command: depends)

    def said() -> list[str]:
        lines: list[str] = []
        debian.Packages(tmp_path, KERNEL).fetch(lines.append)
        return lines

    told = [f"{KERNEL.release}: downloading the kernel's packages"]
    assert said() == told
    packages = sorted((tmp_path / "downloads").iterdir())
    assert len(packages) == 5 + ("modules" in depends)
    for package in packages:
        assert said() == []
        package.unlink()
        assert said() == told
