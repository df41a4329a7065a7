# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One program that reads what another writes. If this breaks, a damaged package hangs a build or is taken for whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import BuildError
from ansible_collections.kpatch.fleet.plugins.module_utils.build.run import pipe


def test_a_producer_may_say_more_than_fits_into_a_pipe(tmp_path: Path) -> None:
    talks = "head -c 200000 /dev/zero >&2; echo wanted"
    pipe(["timeout", "20", "sh", "-c", talks], ["sh", "-c", "cat > $0", tmp_path / "read"])
    assert (tmp_path / "read").read_text(encoding="ascii") == "wanted\n"


def test_a_consumer_may_stop_reading_once_it_has_what_it_wants(tmp_path: Path) -> None:
    """dpkg-deb isn't killed by the signal then: a process of its own is, and it fails."""
    pipe(["sh", "-c", "yes; exit 2"], ["sh", "-c", "head -n 1 > $0", tmp_path / "read"])
    assert (tmp_path / "read").read_text(encoding="ascii") == "y\n"


@pytest.mark.parametrize("consumer", ["cat", "cat; echo 'a part is missing' >&2; exit 2"])
def test_why_a_producer_has_failed_is_told(consumer: str) -> None:
    """Whether the consumer notices that not all has come or not."""
    with pytest.raises(BuildError, match="failed: compressed data is corrupt"):
        pipe(["sh", "-c", "echo a part; echo compressed data is corrupt >&2; exit 2"], ["sh", "-c", consumer])


def test_what_a_consumer_says_is_told_where_only_it_has_failed() -> None:
    with pytest.raises(BuildError, match="failed: no room$"):
        pipe(["sh", "-c", "yes; echo broken pipe >&2; exit 2"], ["sh", "-c", "echo no room >&2; exit 1"])
