# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The messages that the collection fails with, read out of its source; what a message is filled with is '…'."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

# Where a message is the last argument. HostError has a reason before it, and each reason has a runbook of its own.
_RAISED = {
    "FleetError",
    "BuildError",
    "ManifestError",
    "AnsibleActionFail",
    "SignatureError",
    "ArchiveError",
    "LabError",
    "ElfError",
    "PrepareError",
}
_REFUSED = {"Refusal", "_refused"}


def messages(plugins: Path) -> Iterator[tuple[str, str]]:
    """Each message with the file that it is in; one that only passes on another has no words of its own."""
    for path in sorted(plugins.rglob("*.py")):
        if "host" in path.relative_to(plugins).parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and _name(node) in _RAISED | _REFUSED and node.args:
                text = _text(node.args[-1])
                if any(letter.isalpha() for letter in text):
                    yield str(path.relative_to(plugins)), text


def _name(call: ast.Call) -> str:
    return getattr(call.func, "id", getattr(call.func, "attr", ""))


def _text(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) for part in node.values)
    if isinstance(node, ast.BinOp):
        return _text(node.left) + _text(node.right)
    return "…"
