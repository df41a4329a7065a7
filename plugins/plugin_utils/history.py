# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The newest build of each module that a plan was ever made with: an older one is seen before any host is touched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible_collections.kpatch.fleet.plugins.module_utils import manifest as manifests
from ansible_collections.kpatch.fleet.plugins.module_utils import newest
from ansible_collections.kpatch.fleet.plugins.plugin_utils.errors import FleetError

FILE = "newest.json"
_MEND = (
    "nothing was touched. If nobody meant to go back, find out who changed the store and build again; "
    "if it is meant, set kpatch_downgrade=true"
)


def check(home: Path, plan: dict[str, Any], downgrade: bool) -> newest.Newest:
    """What was ever planned with, *plan* included; FleetError if that is older than what was, and not meant to be."""
    found = _artifacts(plan)
    try:
        before = newest.read(home / FILE)
        for one in [] if downgrade else found:
            newest.check(before, one, _MEND)
    except (newest.NewestError, newest.OlderError) as error:
        raise FleetError(str(error)) from error
    return newest.with_seen(before, found)


def keep(home: Path, seen: newest.Newest) -> None:
    """Keep it for the plans that come."""
    try:
        newest.keep(home / FILE, seen)
    except newest.NewestError as error:
        raise FleetError(str(error)) from error


def _artifacts(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """What the plan keeps of each artifact, with the kernel that it is for."""
    return [
        {
            **one,
            "module": manifests.module_name(name),
            "kernel": {"release": release, "build_id": kernel["made"][name]["build_id"]},
        }
        for release, kernel in plan["kernels"].items()
        for name, one in kernel["artifacts"].items()
    ]
