# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host runs, in the few words that plans and ledgers keep of a look: enough to tell it long afterwards."""

from __future__ import annotations

from typing import Any

from ansible_collections.kpatch.fleet.plugins.plugin_utils import states

_IDENTITY = ("module", "srcversion", "build_id")
_PATCH = (*_IDENTITY, "backend", "enabled", "transition", "consistency", "window_ns")
_FOREIGN = ("module", "enabled", "transition")


def seen(look: Any) -> dict[str, Any] | None:
    """Kernel, taint, core module and patches of a look; None of a host that is lost."""
    if states.lost(look):
        return None
    host = look["host"]
    core = host.get("core")
    return {
        "kernel": host["kernel"]["release"],
        "taint": "".join(host["kernel"]["taint"]["flags"]),
        "core": _keep(core, (*_IDENTITY, "abi")) if core else None,
        "patches": [_keep(patch, _PATCH) for patch in host.get("patches") or []],
        "livepatches": [_keep(patch, _FOREIGN) for patch in host.get("livepatches") or []],
    }


def _keep(module: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: module[key] for key in keys if module.get(key) is not None}
