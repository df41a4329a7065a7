# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lock between builders. If this breaks, a builder that waits for another looks as if it hung."""

from __future__ import annotations

import threading
from pathlib import Path

from ansible_collections.kpatch.fleet.plugins.module_utils.build import tree


def test_who_waits_for_another_builder_says_so_and_then_goes_on(tmp_path: Path) -> None:
    said: list[str] = []
    waits, goes_on = threading.Event(), threading.Event()

    def say(line: str) -> None:
        said.append(line)
        waits.set()

    def second() -> None:
        with tree.locked(tmp_path, "6.1.0-1-amd64", say):
            goes_on.set()

    with tree.locked(tmp_path, "6.1.0-1-amd64", said.append):
        assert said == []
        thread = threading.Thread(target=second)
        thread.start()
        assert waits.wait(30)
        assert not goes_on.is_set()
    thread.join(30)
    assert goes_on.is_set()
    assert said == ["waiting for another builder, which is at work on kernel 6.1.0-1-amd64"]
