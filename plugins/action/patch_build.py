# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hands the source patch and the glue's C to the builder."""

from __future__ import annotations

from typing import Any

from ansible_collections.kpatch.fleet.plugins.plugin_utils.build import BuildAction, patch_sources, patch_text


class ActionModule(BuildAction):
    """The module is the one of the same name."""

    kind = "patch_build"

    def _contents(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return {"source_text": patch_text(arguments), "sources": patch_sources(self._kmod(arguments))}
