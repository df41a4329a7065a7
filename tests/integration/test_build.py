# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which builds the build playbook asks for, and what it says of those that can't be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import OTHER, RELEASE, Fleet, store


@pytest.fixture
def mixed(fleet: Fleet) -> Fleet:
    """Five hosts; h4 runs another kernel."""
    host = fleet.read("h4")["host"]
    fleet.update("h4", host={**host, "kernel": {**host["kernel"], "release": OTHER}})
    for name in ("kpatch", *fleet.patches):
        store(fleet.home / "store", OTHER, name)
    return fleet


def built(fleet: Fleet) -> list[str]:
    log = fleet.hosts / "built.log"
    return log.read_text().splitlines() if log.exists() else []


def options(fleet: Fleet, source: Path, *unbuildable: str) -> tuple[str, str]:
    patches = [{"name": name, "source": str(source)} for name in fleet.patches]
    extra = {"kpatch_patches": patches, "unbuildable": unbuildable, "simulated_hosts": str(fleet.hosts)}
    return "-e", json.dumps(extra)


def everything(release: str) -> list[str]:
    return [f"{release} {name}" for name in ("kpatch", *Fleet.patches)]


def test_builds_each_patch_once_for_each_kernel(mixed: Fleet, tmp_path: Path) -> None:
    source = tmp_path / "a.patch"
    source.touch()
    run = mixed.run("build", *options(mixed, source))
    assert (run.status, run.changed) == (0, {})
    assert built(mixed) == [*everything(RELEASE), *everything(OTHER)]


def test_kernel_that_cannot_be_built_for_is_named_and_the_other_is_built(mixed: Fleet, tmp_path: Path) -> None:
    source = tmp_path / "a.patch"
    source.touch()
    run = mixed.run("build", *options(mixed, source, RELEASE))
    assert run.status != 0
    assert built(mixed) == [f"{RELEASE} kpatch", *everything(OTHER)]
    assert f"not built: the core module for {RELEASE}" in run.output


def test_refused_patch_is_named_line_by_line_for_each_kernel_and_the_other_is_built(
    mixed: Fleet, tmp_path: Path
) -> None:
    source = tmp_path / "a.patch"
    source.touch()
    run = mixed.run("build", *options(mixed, source, "one"))
    assert run.status != 0
    assert f"{OTHER} two" in built(mixed)
    assert run.output.count('        "  fs/a.c: f: is __init"') == 2
    assert f"not built: one for {RELEASE}" in run.output
    assert f"; one for {OTHER}" in run.output


def test_what_is_built_beside_a_refused_patch_reaches_the_controllers_store(mixed: Fleet, tmp_path: Path) -> None:
    source = tmp_path / "a.patch"
    source.touch()
    current = mixed.home / "store" / OTHER / "two/current"
    path = current.resolve()
    away = path.rename(path.with_name("elsewhere"))
    current.unlink()
    current.symlink_to(away.name)
    for name in ("report.json", "report.txt"):
        (away / name).touch()
    assert mixed.run("build", *options(mixed, source, "one")).status != 0
    assert current.resolve() == path
    assert path.is_dir()


def test_missing_source_is_named_before_anything_is_built(mixed: Fleet, tmp_path: Path) -> None:
    run = mixed.run("build", *options(mixed, tmp_path / "missing.patch"))
    assert run.status != 0
    assert "missing.patch' is not a file" in run.output
    assert built(mixed) == []


def test_lost_host_does_not_keep_the_others_from_being_built_for(mixed: Fleet, tmp_path: Path) -> None:
    source = tmp_path / "a.patch"
    source.touch()
    mixed.update("h1", lost=True)
    assert mixed.run("build", *options(mixed, source)).status == 0
    assert len(built(mixed)) == 6


def test_limit_that_leaves_the_builder_out_is_told(mixed: Fleet, tmp_path: Path) -> None:
    source = tmp_path / "a.patch"
    source.touch()
    run = mixed.run("build", *options(mixed, source), "--limit", "h4")
    assert run.status != 0
    assert "does --limit leave the builder out" in run.output
    run = mixed.run("build", *options(mixed, source), "--limit", "h4,localhost")
    assert (run.status, built(mixed)) == (0, everything(OTHER))
