# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the plugins that work on the controller print. If this breaks, a host writes onto the operator's terminal."""

from __future__ import annotations

from unittest.mock import MagicMock

import pytest
from ansible_collections.kpatch.fleet.plugins.plugin_utils.action import ControllerAction


def test_lines_hold_no_control_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    action = ControllerAction(*[MagicMock() for _argument in range(6)])
    shown: list[str] = []
    monkeypatch.setattr(action, "_display", MagicMock(display=shown.append))
    action.show(["h1: task \x1b[2J\x1b]0;title\x07 in f", "h2: a\r\nb: applied", "─ é ✓"])
    assert shown == ["h1: task  [2J ]0;title  in f", "h2: a  b: applied", "─ é ✓"]
