# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prints the dashboard's expressions as rules, for promtool to check."""

from __future__ import annotations

import json
import sys
from pathlib import Path

panels = json.loads(Path(sys.argv[1]).read_text())["panels"]
rules = [{"record": f"panel:{panel['id']}", "expr": panel["targets"][0]["expr"]} for panel in panels]
print(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
