# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""If this breaks, controller or builder do as root what needs none: what belongs to the operator becomes root's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from conftest import Fleet


@pytest.fixture
def become(fleet: Fleet) -> Fleet:
    """An inventory that asks for root everywhere, the controller included, where there is no way to become it.

    What is done on a simulated host goes over no connection: whatever is connected to here is the controller's own.
    """
    path = fleet.directory / "inventory.yml"
    inventory = yaml.safe_load(path.read_text())
    inventory["all"]["vars"] |= {
        "ansible_become": True,
        "ansible_become_user": "daemon",
        "ansible_become_exe": "/no/sudo",
    }
    path.write_text(yaml.safe_dump(inventory))
    return fleet


def test_controller_and_builder_never_become_root(become: Fleet, tmp_path: Path) -> None:
    source = tmp_path / "a.patch"
    source.touch()
    patches = [{"name": name, "source": str(source)} for name in become.patches]
    become.policy = {"soak": 1, "looks": 1}
    given = ("-e", json.dumps({"kpatch_patches": patches, "simulated_hosts": str(become.hosts)}))
    for playbook in ("survey", "build", "rollout", "status", "report", "rollback"):
        run = become.run(playbook, *given)
        assert (playbook, run.status) == (playbook, 0), run.output
        assert "/no/sudo" not in run.output
