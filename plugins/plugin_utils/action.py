# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the action plugins that work on the controller alone have in common."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.kpatch.fleet.plugins.module_utils.manifest import ManifestError
from ansible_collections.kpatch.fleet.plugins.plugin_utils.errors import FleetError

Result = dict[str, Any]


class ControllerAction(ActionBase):  # type: ignore[misc]
    """*SPEC* is the argument spec; `act` does the work. No host is contacted, and none is changed."""

    SPEC: dict[str, Any] = {}
    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> Result:
        """What `act` returns; a failure without a traceback for what an operator can mend."""
        result: Result = super().run(tmp, task_vars)
        self.variables = task_vars or {}
        _checked, arguments = self.validate_argument_spec(argument_spec=self.SPEC)
        try:
            result.update(changed=False, **self.act(dict(arguments)))
        except (FleetError, ManifestError) as error:
            result.update(failed=True, changed=False, msg=str(error))
        return result

    def act(self, arguments: dict[str, Any]) -> Result:
        raise NotImplementedError

    @property
    def check(self) -> bool:
        """Whether the run only tells what it would do."""
        return bool(self._task.check_mode)

    @property
    def width(self) -> int:
        """The columns of the terminal. A worker has none of its own: Ansible looked at it before."""
        return shutil.get_terminal_size((self._display.columns + 1, 40)).columns

    def show_verbose(self, lines: list[str]) -> None:
        """Print lines if the operator has asked for more (-v)."""
        if self._display.verbosity:
            self.show(lines)

    def show(self, lines: list[str]) -> None:
        """Print lines, without what would move the terminal's cursor: hosts have a say in them."""
        for line in lines:
            self._display.display("".join(letter if letter.isprintable() else " " for letter in line))


def directory(path: str) -> Path:
    """*path* with '~' resolved, on the controller."""
    return Path(path).expanduser().absolute()
