# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads all that matters of one host at once; what host_info returns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible_collections.kpatch.fleet.plugins.module_utils.host import order
from ansible_collections.kpatch.fleet.plugins.module_utils.host.kept import UPGRADE, Kept
from ansible_collections.kpatch.fleet.plugins.module_utils.host.kernel import read_kernel
from ansible_collections.kpatch.fleet.plugins.module_utils.host.patches import (
    read_core,
    read_livepatches,
    read_patches,
)
from ansible_collections.kpatch.fleet.plugins.module_utils.host.staging import Staging


def read_host(root: Path) -> dict[str, Any]:
    """The host's state now, as its kernel tells it."""
    kernel = read_kernel(root)
    staging = Staging(root, kernel["release"])
    staged = staging.modules()
    damage = None if staged is None else staging.damage()
    return {
        "kernel": kernel,
        "core": read_core(root),
        "patches": read_patches(root),
        "livepatches": read_livepatches(root),
        "order": order.read(root),
        "staged": staged,
        "manifests": staging.manifests(),
        "at_boot": None if staged is None or damage else staging.enabled(),
        "damaged": damage,
        "unfinished": None if staged is None else Kept(staging, UPGRADE).read() is not None,
    }
