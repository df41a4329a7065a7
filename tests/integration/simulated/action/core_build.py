# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plays the builder."""

from __future__ import annotations

from ansible_collections.kpatch.fleet.plugins.plugin_utils.simulated_build import SimulatedBuild


class ActionModule(SimulatedBuild):
    pass
