# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bytes of a function, compared before it is replaced.

If these fail, a patch that was made for another build of a function or module replaces it all the same.
"""

from __future__ import annotations

import re

from host import Host

REFUSAL = r"target_value of kpt_target is not what the patch is for: its sum is ([0-9a-f]+), not 1"


def test_a_function_that_looks_different_is_refused_by_name(target: Host) -> None:
    found = re.fullmatch(REFUSAL, target.refused("kpt_original", "checksum=1"))
    assert found is not None
    assert target.target()["value"] == 1
    # What it looks like indeed is accepted.
    target.load("kpt_original", f"checksum=0x{found[1]}")
    assert target.target()["value"] == 5


def test_a_function_that_is_shorter_is_refused(target: Host) -> None:
    assert target.refused("kpt_original", "size=100000").endswith("bytes at most, not 100000")


def test_a_module_that_loads_later_is_compared_too(host: Host) -> None:
    host.load("kpt_original", "checksum=1")
    found = re.fullmatch(REFUSAL, host.refused("kpt_target"))
    assert found is not None
    assert host.set("kpt_original", 0)
    host.unload("kpt_original")
    host.load("kpt_original", f"checksum=0x{found[1]}")
    host.load("kpt_target")
    assert host.target()["value"] == 5
    # Enabled again, its entry has been a call to ftrace meanwhile.
    assert host.set("kpt_original", 0)
    assert host.set("kpt_original", 1)
