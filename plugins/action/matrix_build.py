# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hands the source patches and all of our C to the builder."""

from __future__ import annotations

from typing import Any

from ansible_collections.kpatch.fleet.plugins.plugin_utils.build import (
    BuildAction,
    core_sources,
    patch_sources,
    patch_text,
)


class ActionModule(BuildAction):
    """The module is the one of the same name."""

    kind = "matrix_build"

    def _contents(self, arguments: dict[str, Any]) -> dict[str, Any]:
        kmod = self._kmod(arguments)
        patches = [{**patch, "source_text": patch_text(patch)} for patch in arguments.get("patches") or []]
        return {"patches": patches, "sources": {"core": core_sources(kmod), "patch": patch_sources(kmod)}}
