# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ships what the module patchset needs to the host."""

from __future__ import annotations

from ansible_collections.kpatch.fleet.plugins.plugin_utils.ship import ShipAction


class ActionModule(ShipAction):
    """The module is the one of the same name."""

    kind = "patchset"
