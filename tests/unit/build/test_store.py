# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The store. If this breaks, hosts get an artifact that is half written, damaged, or another one's."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import example_artifact
import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils.build.artifact import present
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import BuildError
from ansible_collections.kpatch.fleet.plugins.module_utils.build.store import Shelf
from ansible_collections.kpatch.fleet.plugins.module_utils.manifest import ManifestError

RELEASE = "6.1.0-1-amd64"


def manifest(module: Path, digest: str) -> dict[str, Any]:
    kernel = example_artifact.kernel(RELEASE)
    return example_artifact.manifest("some", module.read_bytes(), kernel, input_sha256=digest)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "store", RELEASE, "some")


@pytest.fixture
def module(tmp_path: Path) -> Path:
    path = tmp_path / "kpatch_some.ko"
    path.write_bytes(b"module")
    return path


def test_what_was_published_is_current_and_nothing_else_is_there(shelf: Shelf, module: Path) -> None:
    digest = "1" * 64
    directory = shelf.publish(manifest(module, digest), {module.name: module})
    assert shelf.current() == directory == shelf.path / digest
    assert sorted(path.name for path in shelf.path.iterdir()) == [digest, "current"]
    assert sorted(path.name for path in directory.iterdir()) == ["kpatch_some.ko", "manifest.json"]
    assert (shelf.path / "current" / "kpatch_some.ko").read_bytes() == b"module"


def test_one_changed_byte_is_not_found(shelf: Shelf, module: Path) -> None:
    digest = "1" * 64
    directory = shelf.publish(manifest(module, digest), {module.name: module})
    assert shelf.find(digest) is not None
    (directory / module.name).write_bytes(b"modulE")
    assert shelf.find(digest) is None
    shelf.publish(manifest(module, digest), {module.name: module})
    assert shelf.find(digest) is not None
    assert sorted(path.name for path in shelf.path.iterdir()) == [digest, "current"]


def test_what_a_killed_builder_left_is_swept_away(shelf: Shelf, module: Path) -> None:
    shelf.publish(manifest(module, "1" * 64), {module.name: module})
    for name in (".new-a", ".new-a.replaced", ".current-b", ".signing-c"):
        (shelf.path / name).mkdir()
        (shelf.path / name / "half").write_bytes(b"")
    shelf.select("1" * 64)
    assert sorted(path.name for path in shelf.path.iterdir()) == ["1" * 64, "current"]


def test_builders_of_one_artifact_at_once_leave_one_that_is_whole(shelf: Shelf, module: Path) -> None:
    digest = "1" * 64
    with ThreadPoolExecutor(8) as pool:
        made = [pool.submit(shelf.publish, manifest(module, digest), {module.name: module}) for _time in range(64)]
        assert {future.result() for future in made} == {shelf.path / digest}
    assert shelf.find(digest) is not None
    assert sorted(path.name for path in shelf.path.iterdir()) == [digest, "current"]


def test_present_is_unchanged_only_if_it_is_current(shelf: Shelf, module: Path) -> None:
    first, second = "1" * 64, "2" * 64
    assert present(shelf, first, check_mode=False) is None
    shelf.publish(manifest(module, first), {module.name: module})
    shelf.publish(manifest(module, second), {module.name: module})
    checked = present(shelf, first, check_mode=True)
    assert checked is not None
    assert checked.changed
    assert shelf.current() == shelf.path / second
    done = present(shelf, first, check_mode=False)
    assert done is not None
    assert done.changed
    assert shelf.current() == shelf.path / first
    again = present(shelf, first, check_mode=False)
    assert again is not None
    assert not again.changed


def test_manifest_of_another_digest_is_not_found(shelf: Shelf, module: Path) -> None:
    directory = shelf.publish(manifest(module, "1" * 64), {module.name: module})
    directory.rename(shelf.path / ("2" * 64))
    assert shelf.find("2" * 64) is None


@pytest.mark.parametrize("name", ["../x", "a b", "a;b", "", "A"])
def test_bad_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ManifestError):
        Shelf(tmp_path, RELEASE, name)
    with pytest.raises(BuildError):
        Shelf(tmp_path, RELEASE, "some").directory(name)


def test_failed_publication_leaves_nothing(shelf: Shelf, module: Path, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="can't be written"):
        shelf.publish(manifest(module, "1" * 64), {"kpatch_some.ko": tmp_path / "missing"})
    assert list(shelf.path.iterdir()) == []
