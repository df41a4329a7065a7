# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hands the source patch and the glue's C to the builder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible_collections.kpatch.fleet.plugins.module_utils.manifest import ManifestError, check_name
from ansible_collections.kpatch.fleet.plugins.plugin_utils.build import BuildAction, read_sources


class ActionModule(BuildAction):
    """The module is the one of the same name."""

    kind = "patch_build"

    def _contents(self, arguments: dict[str, Any]) -> dict[str, Any]:
        try:
            check_name(arguments.get("name"))
        except ManifestError as error:
            raise AnsibleActionFail(str(error)) from error
        if not arguments.get("source"):
            raise AnsibleActionFail("'source' is missing; name the file with the diff")
        kmod = self._kmod(arguments)
        header = kmod / "core" / "kpatch.h"
        return {
            "source_text": Path(str(arguments["source"])).expanduser().read_text(encoding="utf-8"),
            "sources": {**read_sources(kmod / "patch"), header.name: header.read_text(encoding="utf-8")},
        }
