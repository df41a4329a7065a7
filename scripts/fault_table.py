# Copyright: kpatch.fleet contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prints the table of faults from the rows of tests/fault_table.py; that of a whole run goes to docs/reliability.md."""

from __future__ import annotations

import json
import os
import platform
import sys
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

PAGE = Path(__file__).resolve().parents[1] / "docs/reliability.md"
MARK = "<!-- The table below is written by make faults. -->"


def shown(rows: dict[str, dict[str, str]]) -> Table:
    """For a terminal."""
    table = Table("fault", "what happens", "what has to hold", "seen")
    for name, row in rows.items():
        table.add_row(name, row["fault"], row["invariant"], row["seen"])
    return table


def written(rows: dict[str, dict[str, str]]) -> str:
    """For the page."""
    head = ["| fault | what happens | what has to hold | seen |", "|---|---|---|---|"]
    cells = [f"| `{name}` | {row['fault']} | {row['invariant']} | {row['seen']} |" for name, row in rows.items()]
    day = datetime.now(timezone.utc).strftime("%Y-%m-%d")
    core, series = version("ansible-core"), os.environ.get("SERIES", "6.1").split(",")[0]
    where = (
        f"Seen in one run on {day} with ansible-core {core}, Python {platform.python_version()}, {os.cpu_count()} "
        f"processors; the booted machine had {series}, in QEMU without KVM."
    )
    return "\n".join([MARK, "", where, "", *head, *cells]) + "\n"


def main() -> int:
    """0 if each fault was run and its invariant held."""
    rows: dict[str, dict[str, str]] = {}
    for path in sys.argv[1:]:
        if Path(path).exists():
            rows.update(json.loads(Path(path).read_text()))
    Console().print(shown(rows))
    if not os.environ.get("FAULT") and PAGE.exists():
        PAGE.write_text(PAGE.read_text().partition(MARK)[0] + written(rows))
    return 0 if rows and all(row["seen"] == "held" for row in rows.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
