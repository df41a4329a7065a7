# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What building a matrix side by side saves: the demo's patches for prepared kernels, with one job and with several.

The store is empty each time, and the kernels' trees are prepared: what is measured is the compiling.
"""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ansible_collections.kpatch.fleet.plugins.module_utils.build.tree import build_id

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "playbooks/files/demo"
CACHE = Path(os.environ["KPATCH_CACHE"])
_BANNER = re.compile(rb"Linux version [^\n\0]*\) (#[0-9]+ [^\n\0]*)\n")


def kernel(series: str) -> dict[str, Any]:
    """The newest prepared kernel of *series* that is Debian's, as a survey would have it."""
    prepared = (CACHE / "kernels").glob(f"{series}.*-amd64/kernel.json")
    for facts in sorted(
        prepared, key=lambda path: [int(n) for n in re.findall("[0-9]+", path.parent.name)], reverse=True
    ):
        vmlinux = facts.with_name("vmlinux")
        banner = _BANNER.search(vmlinux.read_bytes())
        if banner:
            one = {"release": facts.parent.name, "version": banner[1].decode(), "build_id": build_id(vmlinux)}
            return {"label": series, "kernel": one}
    raise SystemExit(f"no kernel of {series} is prepared in {CACHE}/kernels; 'make demo' prepares 6.1 and 6.12")


def build(kernels: list[dict[str, Any]], jobs: int) -> tuple[float, float]:
    """The seconds that the whole takes, and the processor seconds."""
    with tempfile.TemporaryDirectory(prefix="bench-matrix-") as store:
        patches = [{"name": path.stem, "source": str(path)} for path in sorted(DEMO.glob("*.patch"))]
        options = {"kernels": kernels, "patches": patches, "store": store, "cache": str(CACHE), "jobs": jobs}
        before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        command = ["ansible", "localhost", "-m", "kpatch.fleet.matrix_build", "-a", json.dumps(options)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        seconds, after = time.monotonic() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode != 0:
            raise SystemExit(done.stdout + done.stderr)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """By turns, so that what else the machine does falls on both; the best of each is told, as a table."""
    jobs, rounds = len(os.sched_getaffinity(0)), int(sys.argv[2])
    kernels = [kernel(series) for series in sys.argv[1].split(",")]
    found: dict[int, list[tuple[float, float]]] = {1: [], jobs: []}
    for _round in range(rounds):
        for count, runs in found.items():
            runs.append(build(kernels, count))
            print(f"{count} jobs: {runs[-1][0]:.1f} s, processors {runs[-1][1]:.1f} s", file=sys.stderr)
    print("| jobs | seconds, best | all | processor seconds |\n|---:|---:|---|---:|")
    for count, runs in found.items():
        every = ", ".join(f"{seconds:.1f}" for seconds, _busy in runs)
        print(f"| {count} | {min(runs)[0]:.1f} | {every} | {min(runs)[1]:.1f} |")


if __name__ == "__main__":
    main()
