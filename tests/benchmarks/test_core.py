# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Benchmarks of the core module against stop_machine() and the kernel's own live patching, in the same boot.

They need the fixtures of tests/kernel (scripts/bench-core says how). TASKS, FUNCTIONS and REPEATS say how much;
PERFORMANCE_PAGE names the page that the results are written to.
"""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from host import Host
from models import MODELS
from report import calls, transitions, windows_by_functions, windows_by_tasks, write

PAGE = os.environ.get("PERFORMANCE_PAGE")
_DRIVER = Path(__file__).with_name("bench_drive.py")
_SECONDS = 3600


def _numbers(name: str, default: str) -> list[int]:
    return [int(number) for number in os.environ.get(name, default).split(",")]


def asked() -> dict[str, Any]:
    """What the driver is to measure."""
    return {
        "tasks": _numbers("TASKS", "0,500,2000,5000"),
        "functions": _numbers("FUNCTIONS", "1,10,100,500"),
        "repeats": int(os.environ.get("REPEATS", "10")),
        "models": {str(model): model.parameters() for model in MODELS},
    }


@pytest.fixture(scope="module")
def results() -> Iterator[list[dict[str, Any]]]:
    """What was found; the page is written with the last kernel."""
    found: list[dict[str, Any]] = []
    yield found
    if PAGE and found:
        names = ("SERIES", "TASKS", "FUNCTIONS", "REPEATS")
        said = [f"{name}={os.environ[name]}" for name in names if name in os.environ]
        write(Path(PAGE), " ".join(["make bench-core", *said]), found)


def test_core(host: Host, results: list[dict[str, Any]]) -> None:
    found = json.loads(host.drive(_DRIVER, json.dumps(asked()), timeout=_SECONDS))
    results.append(found)
    for part in (windows_by_tasks, windows_by_functions, calls, transitions):
        print(f"\n{part(found)}")
    # A switch that costs as much per task as it did in the first experiments would not fit into a window any more.
    window = statistics.median(sample["window"] for sample in found["by_tasks"][0]["samples"])
    assert 0 < window < 1e9
