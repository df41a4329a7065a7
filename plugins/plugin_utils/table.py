# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables as text, for a terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Sequence

Row = Sequence[object]


def text(head: Row, rows: Sequence[Row]) -> list[str]:
    """Lines with the columns aligned."""
    cells = [[str(cell) for cell in row] for row in [head, *rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in cells]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]


def markdown(head: Row, rows: Sequence[Row]) -> list[str]:
    """A Markdown table; what would break out of a cell is escaped."""
    return [_line(head), _line(["---"] * len(head)), *(_line(row) for row in rows)]


def _line(row: Row) -> str:
    return "| " + " | ".join(" ".join(str(cell).replace("|", "\\|").split()) for cell in row) + " |"
