# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What make corpus calls a refusal. If this breaks, its share of built fixes counts others than those of code."""

from __future__ import annotations

from typing import Any
from unittest import mock

import outcome
import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils.build import patch_module
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import Difference, Refusal, RefusedError
from grouping import Grouping

DATA = Difference("changed", "data", "table", "its initial value changed")
CODE = Difference("new", "function", "ovs_pre_exit", "only the patched file has it")
IN_USE = "the initial value of existing data changed, but the running kernel uses the data as it is"


@pytest.mark.parametrize(
    ("reason", "differences", "result"),
    [
        (IN_USE, [DATA], outcome.DATA),
        (IN_USE, [DATA, CODE], outcome.REFUSED),
        # Not all could be compared, or nothing: nobody knows what would differ.
        (IN_USE, None, outcome.REFUSED),
        ("it is compiled without calls to the function tracer", [], outcome.REFUSED),
        (patch_module.NO_EFFECT, None, outcome.UNCHANGED),
        ("it does not compile: fs/one.c:3:1: error: …", None, outcome.INCOMPLETE),
    ],
)
def test_what_is_refused(reason: str, differences: list[Difference] | None, result: str) -> None:
    def build(files: frozenset[str]) -> Any:
        raise RefusedError([Refusal("fs/one.c", "table", reason)], differences)

    # Of a file that lacks nothing of its update.
    alone = mock.create_autospec(Grouping, instance=True)
    alone.lacking.return_value = set()
    assert outcome.find_out("fs/one.c", alone, build, 1).result == result


def test_what_fails_beside_the_builder_is_an_error_of_that_file() -> None:
    def build(files: frozenset[str]) -> Any:
        raise RefusedError([Refusal("fs/one.c", "table", IN_USE)], [CODE])

    group = mock.create_autospec(Grouping, instance=True)
    group.lacking.side_effect = FileNotFoundError("objects/.tmp_4711")
    found = outcome.find_out("fs/one.c", group, build, 1)
    assert (found.result, found.files) == (outcome.ERROR, [])
    assert "objects/.tmp_4711" in found.reasons[0]
