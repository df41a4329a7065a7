# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""After a survey the hosts can be named by their kernel; a host that was lost is in no such group."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
from conftest import OTHER, ROOT, Fleet


def test_hosts_are_grouped_by_kernel_backend_and_state(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANSIBLE_CACHE_PLUGIN", "ansible.builtin.jsonfile")
    monkeypatch.setenv("ANSIBLE_CACHE_PLUGIN_CONNECTION", str(fleet.directory / "facts"))
    host = fleet.read("h2")["host"]
    fleet.update("h2", host={**host, "kernel": {**host["kernel"], "release": OTHER}})
    fleet.update("h3", lost=True)
    # Without the core module, a patch of ours is one of livepatch's.
    fleet.update("h4", host={**host, "patches": [{"module": "kpatch_one", "backend": "livepatch", "enabled": True}]})
    assert fleet.run("survey").failed == ["h3"]
    constructed = ROOT / "playbooks/files/inventory/kpatch.constructed.yml"
    told = subprocess.run(
        ["ansible-inventory", "-i", str(fleet.directory / "inventory.yml"), "-i", str(constructed), "--list"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(fleet.collections)},
    )
    groups = json.loads(told.stdout)
    assert groups["kernel_6_1_0_1_cloud_amd64"]["hosts"] == ["h1", "h4", "h5"]
    assert groups["kernel_6_12_1_cloud_amd64"]["hosts"] == ["h2"]
    assert groups["kpatch_backend_none"]["hosts"] == groups["kpatch_state_bare"]["hosts"] == ["h1", "h2", "h5"]
    assert groups["kpatch_backend_livepatch"]["hosts"] == groups["kpatch_state_patched"]["hosts"] == ["h4"]


def test_static_example_has_the_groups_that_the_playbooks_know() -> None:
    static = ROOT / "playbooks/files/inventory/static.yml"
    told = subprocess.run(
        ["ansible-inventory", "-i", str(static), "--list"], capture_output=True, text=True, check=True
    )
    groups = json.loads(told.stdout)
    assert groups["kpatch_builder"]["hosts"] == ["build1"]
    assert groups["kpatch_canary"]["hosts"] == ["web1"]
    assert set(groups["fleet"]["hosts"]) >= set(groups["kpatch_canary"]["hosts"])
