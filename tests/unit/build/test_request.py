# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is refused before a build. If this breaks, hours of building end in a patch that no kernel takes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils.build import glue, patch_module
from ansible_collections.kpatch.fleet.plugins.module_utils.build.identity import Identity
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import BuildError
from ansible_collections.kpatch.fleet.plugins.module_utils.manifest import LEAVE, NOT_GIVEN, SWITCH


def check(leave: str, switch: str, **means: str) -> None:
    sources = dict.fromkeys((glue.TABLES, glue.LIVEPATCH, glue.MODULE, glue.HEADER, glue.AUTHOR), "")
    consistency = {"leave": leave, "switch": switch, **means}
    kernel = Identity("6.1.0-1-amd64", "v", "ab")
    patch_module.Request("some", "diff", consistency, sources, kernel, Path("/cache"), Path("/store")).check()


@pytest.mark.parametrize("leave", LEAVE)
@pytest.mark.parametrize("switch", SWITCH)
def test_pairs_that_mean_nothing_are_refused_with_their_reason(leave: str, switch: str) -> None:
    if (leave, switch) not in NOT_GIVEN:
        check(leave, switch)
        return
    with pytest.raises(BuildError, match=re.escape(f"leave={leave} switch={switch} is not given: ")):
        check(leave, switch)


@pytest.mark.parametrize(("switch", "given"), [("kernel", True), ("thread", False)])
def test_counting_is_for_the_whole_kernel_only(switch: str, given: bool) -> None:
    if given:
        check("patched_set", switch, means="counting")
        return
    with pytest.raises(BuildError, match="means=counting is a way to leave=patched_set switch=kernel, not to"):
        check("patched_set", switch, means="counting")


def test_other_means_are_refused() -> None:
    with pytest.raises(BuildError, match="means has to be one of"):
        check("patched_set", "kernel", means="waiting")


def test_the_core_module_gives_the_same_reasons() -> None:
    text = (Path(__file__).parents[3] / "kmod/core/consistency.c").read_text(encoding="utf-8")
    assert re.findall(r'^\t\t\t"(.+)",$', text, re.MULTILINE) == list(NOT_GIVEN.values())
