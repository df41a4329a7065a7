# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A pytest plugin: of all tests runs those of faults (FAULT=name for one), and writes down which invariants held.

Such a test has the marker fault(name); the first line of its docstring is the fault, the rest is the invariant.
"""

from __future__ import annotations

import inspect
import json
import os
from pathlib import Path

import pytest


class Table:
    """Collects a row for each fault: its name, what it is, what has to hold, and whether it did."""

    def __init__(self, path: Path, only: str) -> None:
        self.path, self.only = path, only
        self.rows: dict[str, dict[str, str]] = {}
        self.names: dict[str, str] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep the tests of faults, and of these the one that was asked for."""
        chosen = []
        for item in items:
            marker = item.get_closest_marker("fault")
            if marker and self.only in ("", marker.args[0]):
                chosen.append(item)
                self._add(item, marker.args[0])
        items[:] = chosen

    def _add(self, item: pytest.Item, name: str) -> None:
        text = inspect.getdoc(getattr(item, "function", None)) or ""
        fault, _newline, invariant = text.partition("\n")
        self.names[item.nodeid] = name
        self.rows[name] = {"fault": fault, "invariant": " ".join(invariant.split()), "seen": "not run"}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A fault with several tests has held if all have."""
        row = self.rows[self.names[report.nodeid]]
        if report.when == "call" and report.passed and row["seen"] == "not run":
            row["seen"] = "held"
        elif report.failed:
            row["seen"] = "broken"

    def pytest_sessionfinish(self) -> None:
        """Leave the rows for whoever puts them together."""
        self.path.write_text(json.dumps(self.rows))


def pytest_configure(config: pytest.Config) -> None:
    """Begin with what the environment says."""
    config.pluginmanager.register(Table(Path(os.environ["FAULT_ROWS"]), os.environ.get("FAULT", "")))
