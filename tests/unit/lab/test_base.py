# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""If these fail, a name reaches a shell, or a half-made image or record is taken for a whole one."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils.lab import base


@pytest.mark.parametrize("name", ["web1", "a", "edge-1", "a" * 31])
def test_good_names_pass(name: str) -> None:
    assert base.check_name("the name of a VM", name) == name


@pytest.mark.parametrize(
    "name", ["", "../x", "a b", "a;b", "$(id)", "Web", "1a", "-a", "a_b", "a.b", "a\n", "a" * 32, None, 3]
)
def test_bad_names_are_refused_by_name(name: object) -> None:
    with pytest.raises(base.LabError) as error:
        base.check_name("the name of a VM", name)
    assert repr(name) in str(error.value)


def test_a_published_directory_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "image"
    with base.published(target) as work:
        (work / "disk").write_text("x")
        assert not target.exists()
    assert (target / "disk").read_text() == "x"
    assert list(tmp_path.iterdir()) == [target]


def test_a_failed_publication_leaves_nothing(tmp_path: Path) -> None:
    def build() -> None:
        with base.published(tmp_path / "image") as work:
            (work / "disk").write_text("x")
            raise ValueError("no mirror")

    with pytest.raises(ValueError, match="no mirror"):
        build()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_is_not_built_upon(tmp_path: Path) -> None:
    (tmp_path / ".image.new").mkdir()
    (tmp_path / ".image.new" / "half").touch()
    with base.published(tmp_path / "image") as work:
        assert list(work.iterdir()) == []


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    record = tmp_path / "vm.json"
    record.write_text('{"spec": ')
    with pytest.raises(base.LabError, match=r"vm\.json"):
        base.read_json(record)


def test_a_missing_record_is_none(tmp_path: Path) -> None:
    assert base.read_json(tmp_path / "vm.json") is None


def test_write_whole_sets_the_mode_and_leaves_no_other_file(tmp_path: Path) -> None:
    base.write_whole(tmp_path / "key", "secret", 0o600)
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_a_missing_program_is_named_with_the_mend() -> None:
    with pytest.raises(base.LabError, match="'no-such-program' is not installed; install it"):
        base.run(["no-such-program"], "install it")


def test_a_failing_program_shows_its_last_words() -> None:
    with pytest.raises(base.LabError, match=r"exit code 3.*no mirror.*look there"):
        base.run(["sh", "-c", "echo no mirror >&2; exit 3"], "look there")


def test_too_small_a_disk_is_refused_before_it_is_filled(tmp_path: Path) -> None:
    with pytest.raises(base.LabError, match="are free"):
        base.need_space(tmp_path / "not" / "yet", 1 << 60, "the image")
    base.need_space(tmp_path / "not" / "yet", 1, "the image")


def test_digest_depends_on_values_and_not_on_the_order_of_keys() -> None:
    assert base.digest({"a": 1, "b": 2}) == base.digest({"b": 2, "a": 1})
    assert base.digest({"a": 1}) != base.digest({"a": 2})
