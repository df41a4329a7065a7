# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hands the core module's C to the builder."""

from __future__ import annotations

from typing import Any

from ansible_collections.kpatch.fleet.plugins.plugin_utils.build import BuildAction, core_sources


class ActionModule(BuildAction):
    """The module is the one of the same name."""

    kind = "core_build"

    def _contents(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return {"sources": core_sources(self._kmod(arguments))}
