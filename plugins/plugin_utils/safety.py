# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a plan keeps of the safety report that the builder put beside an artifact: what suffices, and the risks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FILE = "report.json"


def lines(directory: Path) -> list[str]:
    """The report in *directory* in a few sentences; none if there is none, or none that can be read."""
    try:
        found = json.loads((directory / FILE).read_text(encoding="utf-8"))
        return [f"What suffices: {found['consistency']['suffices']}", *_risks(found["risks"])]
    except (OSError, ValueError, KeyError, TypeError):
        # It is for people, and proves nothing: that it is missing must not keep a fix from a fleet.
        return []


def _risks(risks: list[dict[str, Any]]) -> list[str]:
    return [f"{risk['where']}: {risk['risk']}" for risk in risks] or ["No risk was found in code and types."]
