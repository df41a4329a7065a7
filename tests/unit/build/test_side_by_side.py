# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""If these fail, one build that fails hides what came of the others, or a builder runs more than it has processors."""

from __future__ import annotations

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils import side_by_side
from ansible_collections.kpatch.fleet.plugins.module_utils.build import run as programs
from ansible_collections.kpatch.fleet.plugins.module_utils.side_by_side import Answer, Chain, Work


def answers(name: str, **more: object) -> Work:
    return lambda: {"name": name, **more}


def test_a_failure_keeps_only_what_needs_it_from_being_done() -> None:
    chains = [
        Chain(answers("a", msg="no source"), [answers("never")]),
        Chain(answers("b"), [answers("b1", msg="refused"), answers("b2")]),
        Chain(answers("c"), []),
    ]
    found = side_by_side.run(chains, 2)
    assert [[answer["name"] for answer in chain] for chain in found] == [["a"], ["b", "b1", "b2"], ["c"]]
    assert found[1][1]["msg"] == "refused"


def test_chains_are_under_way_together_and_each_first_comes_first() -> None:
    together = threading.Barrier(2, timeout=10)
    order: list[str] = []

    def first(name: str) -> Work:
        def work() -> Answer:
            together.wait()
            order.append(name)
            return {}

        return work

    def other(name: str) -> Work:
        def work() -> Answer:
            assert name in order
            together.wait()
            return {}

        return work

    assert side_by_side.run([Chain(first(name), [other(name)]) for name in "ab"], 2) == [[{}, {}], [{}, {}]]


def test_one_job_does_one_thing_at_a_time() -> None:
    busy = threading.Lock()

    def work() -> Answer:
        assert busy.acquire(blocking=False)
        time.sleep(0.01)
        busy.release()
        return {}

    side_by_side.run([Chain(work, [work, work]), Chain(work, [work])], 1)


@pytest.mark.parametrize("jobs", [1, 3])
def test_no_more_programs_run_at_once_than_are_allowed(tmp_path: Path, jobs: int) -> None:
    """However many threads start them: builds side by side, and in each the compilers of several files."""
    log = tmp_path / "log"
    script = f"echo + >> {log}; sleep 0.05; echo - >> {log}"
    with programs.limited(jobs):
        assert programs.workers() == jobs
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _number: programs.run(["sh", "-c", script]), range(8)))
    running, most = 0, 0
    for sign in re.findall(r"[+-]", log.read_text()):
        running += 1 if sign == "+" else -1
        most = max(most, running)
    assert (running, most) == (0, jobs)
