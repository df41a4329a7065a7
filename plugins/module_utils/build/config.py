# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A kernel's configuration."""

from __future__ import annotations

import re
from pathlib import Path

_SETTING = re.compile(r'(CONFIG_\w+)=(?:"(.*)"|(.*))')


def read_config(path: Path) -> dict[str, str]:
    """The settings of a .config; those that are not set are not in it."""
    matches = (_SETTING.fullmatch(line) for line in path.read_text(encoding="utf-8").splitlines())
    return {match[1]: match[2] if match[2] is not None else match[3] for match in matches if match}
