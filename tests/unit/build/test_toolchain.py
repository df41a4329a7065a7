# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""If these fail, a kernel's objects are compiled by another compiler than the kernel was."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible_collections.kpatch.fleet.plugins.module_utils.build import debian, toolchain
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import BuildError

ROOT = Path(__file__).parents[3]
BULLSEYE = "gcc-10 (Debian 10.2.1-6) 10.2.1 20210110"
FORKY = "x86_64-linux-gnu-gcc-16 (Debian 16.2.0-3) 16.2.0"


@pytest.fixture(autouse=True)
def bookworm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine is Debian 12, whatever it is."""
    release = tmp_path / "os-release"
    release.write_text('NAME="Debian GNU/Linux"\nVERSION_CODENAME=bookworm\n')
    monkeypatch.setattr(toolchain, "_RELEASE_FILE", release)


@pytest.mark.parametrize(
    ("version", "suite"),
    [
        ("5.10.262-1", "bullseye"),
        ("6.1.192-2", "bookworm"),
        ("6.1.180-1~deb11u1", "bullseye"),
        ("6.12.117-1~deb12u1", "bookworm"),
        ("6.12.117-1", "trixie"),
        ("7.2.12-1", "forky"),
    ],
)
def test_a_version_tells_the_suite_that_built_it(version: str, suite: str) -> None:
    assert debian.suite_of(version) == suite


@pytest.mark.parametrize("version", ["4.19.249-2", "6.12.117-1~deb99u1", "6.12.117-1~bpo12+1"])
def test_a_version_of_no_known_suite_is_named(version: str) -> None:
    with pytest.raises(BuildError, match="no suite of Debian is known"):
        debian.suite_of(version)


def test_this_machines_own_programs_build_for_its_own_suite(tmp_path: Path) -> None:
    assert toolchain.of(tmp_path, "bookworm", "gcc-12 (Debian 12.2.0-14) 12.2.0").root is None


def test_each_compiler_of_another_suite_has_a_root(tmp_path: Path) -> None:
    roots = [toolchain.of(tmp_path, suite, banner).root for suite, banner in (("bullseye", BULLSEYE), ("forky", FORKY))]
    assert roots == [
        tmp_path / "toolchains/bullseye-gcc-10_10.2.1-6",
        tmp_path / "toolchains/forky-gcc-16_16.2.0-3",
    ]


def test_a_compiler_that_debian_does_not_ship_is_named(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"clang version 19.*none of Debian's"):
        toolchain.of(tmp_path, "forky", "clang version 19.0.0")


def test_another_version_than_the_kernels_is_refused(tmp_path: Path) -> None:
    (tmp_path / "some-gcc").write_text("#!/bin/sh\necho 'some-gcc (Debian 2-1) 2'\n")
    (tmp_path / "some-gcc").chmod(0o755)
    name = str(tmp_path / "some-gcc")
    with pytest.raises(BuildError, match=r"6\.1-test was built with '.*1-1\) 1', but .* here is '.*2-1\) 2'"):
        toolchain.check(toolchain.Toolchain(), f"{name} (Debian 1-1) 1", "6.1-test")


def test_a_root_that_can_not_be_made_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/mmdebstrap").write_text("#!/bin/sh\necho 'E: Version 16.2.0-3 was not found' >&2; exit 1\n")
    (tmp_path / "bin/mmdebstrap").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.setattr(toolchain, "open_archive", _no_archive)
    said: list[str] = []
    with pytest.raises(BuildError, match=r"16\.2\.0-3 was not found.*forky has gone on"):
        toolchain.ensure(tmp_path, "forky", FORKY, said.append)
    assert said == [f"making a root with '{FORKY}' from Debian's forky"]
    assert [path.name for path in (tmp_path / "toolchains").iterdir()] == ["forky-gcc-16_16.2.0-3.lock"]


class _NoArchive:
    suite = "forky"

    def settings(self) -> str:
        return ""

    def sources(self) -> str:
        return ""


def _no_archive(_cache: Path, _suite: str) -> _NoArchive:
    return _NoArchive()


def test_a_builder_has_what_the_roots_have() -> None:
    """Else patches of SELinux are refused for kernels of its own suite: a program writes their headers."""
    variables = yaml.safe_load((ROOT / "roles/builder/vars/main.yml").read_text(encoding="utf-8"))
    assert set(toolchain._PACKAGES) <= set(variables["builder_packages"])
