# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host counts as mended of a CVE only if every patch for it is on, and a lost host never does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kpatch.fleet.plugins.plugin_utils import cves, patchset, plan
from ansible_collections.kpatch.fleet.plugins.plugin_utils.errors import FleetError
from rollout_facts import LOST, look, put

PATCHES = [{"name": "fix", "cves": ["CVE-2026-11111", "CVE-2026-22222"]}, {"name": "two", "cves": ["CVE-2026-22222"]}]


@pytest.fixture
def found(store: Path) -> dict[str, Any]:
    put(store, "two")
    looks = {
        "both": look("kpatch", "kpatch_fix", "kpatch_two"),
        "one": look("kpatch", "kpatch_fix"),
        "bare": look(),
        "other": look("kpatch", "kpatch_fix", release="6.9"),
        "gone": LOST,
    }
    kernels, _hosts = plan.assess(plan.Order("applied", PATCHES, store), looks)
    return cves.matrix(PATCHES, looks, kernels)


def test_every_patch_of_a_cve_has_to_be_on(found: dict[str, Any]) -> None:
    assert found["CVE-2026-11111"]["mended"] == ["both", "one"]
    assert found["CVE-2026-22222"]["mended"] == ["both"]
    assert found["CVE-2026-22222"]["patches"] == ["fix", "two"]


def test_lost_host_is_not_known_and_one_without_artifact_is_open(found: dict[str, Any]) -> None:
    assert found["CVE-2026-11111"]["unknown"] == ["gone"]
    assert found["CVE-2026-11111"]["open"] == ["bare", "other"]


def test_table_has_a_row_for_each_cve(found: dict[str, Any]) -> None:
    assert [line.split()[0] for line in cves.lines(found)[3:]] == ["CVE-2026-11111", "CVE-2026-22222"]
    assert cves.lines({}) == []


@pytest.mark.parametrize("named", ["CVE-2026-11111", ["cve"], [1], {"CVE-2026-11111": 1}])
def test_what_is_no_list_of_cves_is_refused(named: Any) -> None:
    with pytest.raises(FleetError, match="cves can't be"):
        patchset.metadata([{"name": "fix", "cves": named}])
