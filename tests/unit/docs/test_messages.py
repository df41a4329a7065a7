# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whoever meets with a message finds it in the runbooks; and no runbook is for a message that is gone."""

from __future__ import annotations

import re
from pathlib import Path

import messages
import pytest

ROOT = Path(__file__).resolve().parents[3]
RUNBOOKS = (ROOT / "docs/runbooks.md").read_text(encoding="utf-8").partition("\n## Messages\n")[2]
ROWS = [row.replace("\\|", "|") for row in re.findall(r"^\| `(.+?)` \|", RUNBOOKS, re.MULTILINE)]
MESSAGES = sorted(set(messages.messages(ROOT / "plugins")))


def fits(row: str, message: str) -> bool:
    """Whether *row* is a part of the message."""
    return re.search(".*".join(map(re.escape, row.split("…"))), message, re.DOTALL) is not None


@pytest.mark.parametrize(("source", "message"), MESSAGES, ids=[f"{source}: {text}" for source, text in MESSAGES])
def test_message_has_a_runbook(source: str, message: str) -> None:
    assert [row for row in ROWS if fits(row, message)], source


@pytest.mark.parametrize("row", ROWS)
def test_runbook_has_a_message(row: str) -> None:
    assert [text for _source, text in MESSAGES if fits(row, text)]


def test_there_are_messages() -> None:
    assert len(MESSAGES) > 100
