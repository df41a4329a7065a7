# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""If these fail, the image is made from another archive than Debian's, or without its security updates."""

from __future__ import annotations

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils.lab import apt
from ansible_collections.kpatch.fleet.plugins.module_utils.lab.base import LabError

MAIN = "http://mirror.example/debian/ bookworm main Debian\n"
SECURITY = "http://mirror.example/debian-security/ bookworm-security main Debian\n"
OTHERS = (
    "http://mirror.example/debian/ trixie main Debian\n"
    "http://vendor.example/apt/ bookworm main Vendor\n"
    "http://vendor.example/apt/ bookworm\n"
)


def test_only_debians_own_releases_of_the_suite_are_taken() -> None:
    lines = apt.select_sources(MAIN + OTHERS + SECURITY + MAIN, "bookworm").splitlines()
    assert lines == [
        f"deb [signed-by={apt.KEYRING}] http://mirror.example/debian/ bookworm main",
        f"deb [signed-by={apt.KEYRING}] http://mirror.example/debian-security/ bookworm-security main",
    ]


@pytest.mark.parametrize(("targets", "missing"), [(MAIN, "bookworm-security"), (SECURITY + OTHERS, "bookworm")])
def test_a_suite_that_is_not_offered_is_named(targets: str, missing: str) -> None:
    with pytest.raises(LabError, match=f"'{missing}'"):
        apt.select_sources(targets, "bookworm")
