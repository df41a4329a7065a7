# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prints what the hosts of a fleet run."""

from __future__ import annotations

from typing import Any

from ansible_collections.kpatch.fleet.plugins.plugin_utils import cves, patchset, plan, survey
from ansible_collections.kpatch.fleet.plugins.plugin_utils.action import ControllerAction, Result, directory


class ActionModule(ControllerAction):
    """A table of looks; compared with a patch set if there is one."""

    SPEC = {
        "looks": {"type": "dict", "required": True},
        "patches": {"type": "list", "elements": "dict", "default": []},
        "store": {"type": "path"},
        "keep": {"type": "list", "elements": "str", "default": []},
        "sources": {"type": "bool", "default": False},
    }

    def act(self, arguments: dict[str, Any]) -> Result:
        looks = arguments["looks"]
        assessed: dict[str, Any] = {}
        mended: dict[str, Any] = {}
        if arguments["patches"] and arguments["store"]:
            store, keep = directory(arguments["store"]), arguments["keep"]
            order = plan.Order("applied", arguments["patches"], store, keep=keep)
            kernels, assessed = plan.assess(order, looks)
            mended = cves.matrix(arguments["patches"], looks, kernels)
        patches = patchset.complete(arguments["patches"]) if arguments["sources"] else arguments["patches"]
        self.show([*survey.lines(looks, assessed), *cves.lines(mended)])
        return {
            "kernels": survey.kernels(looks),
            "lost": survey.lost(looks),
            "hosts": assessed,
            "cves": mended,
            "patches": patches,
        }
