# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rollout costs the controller, and how that grows with the fleet: simulated hosts, real playbooks and gates.

What a simulated host costs is next to nothing, and so what is measured is Ansible and our part on the controller.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from conftest import Fleet, tree

Row = dict[str, Any]
RUNS = ("one look", "applying", "no change")


def measure(fleet: Fleet, what: str) -> Row:
    """One run: seconds, processor seconds of the controller, its memory, round trips per host."""
    (fleet.hosts / "trips.log").unlink(missing_ok=True)
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    status = look(fleet) if what == "one look" else fleet.run("rollout").status
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if status:
        raise SystemExit(f"{what} with {len(fleet.names)} hosts failed")
    return {
        "hosts": len(fleet.names),
        "run": what,
        "seconds": round(time.monotonic() - begin, 1),
        "cpu_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        "max_rss_mb": round(after.ru_maxrss / 1024),
        "trips": trips(fleet),
    }


def trips(fleet: Fleet) -> int:
    """The most round trips that any host took."""
    lines = (fleet.hosts / "trips.log").read_text().splitlines()
    return max(Counter(line.split()[0] for line in lines).values())


def look(fleet: Fleet) -> int:
    """What Ansible itself costs for one module on each host."""
    command = ["ansible", "all", "-i", str(fleet.directory / "inventory.yml"), "-m", "kpatch.fleet.host_info", "-o"]
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(fleet.collections)}
    return subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False).returncode


def plot(rows: list[Row], key: str, title: str) -> str:
    """A line for each kind of run, as SVG: hosts to the right, *key* upwards."""
    width, height, edge = 420, 240, 40
    most_hosts, most = max(row["hosts"] for row in rows), max(row[key] for row in rows)
    parts = [f'<text x="{edge}" y="20">{title}, up to {most}</text>']
    parts.append(f'<text x="{width - 90}" y="{height - 8}">{most_hosts} hosts</text>')
    parts.append(f'<path d="M{edge},{edge} V{height - edge} H{width - edge}" fill="none" stroke="#888"/>')
    for number, run in enumerate(RUNS):
        colour = ("#888888", "#c2410c", "#1d4ed8")[number]
        points = [
            f"{edge + (width - 2 * edge) * row['hosts'] / most_hosts:.0f},"
            f"{height - edge - (height - 2 * edge) * row[key] / most:.0f}"
            for row in rows
            if row["run"] == run
        ]
        parts.append(f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{edge + 8}" y="{edge + 14 * number + 12}" fill="{colour}">{run}</text>')
    frame = (
        f'xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="11"'
    )
    return f"<svg {frame}>\n" + "\n".join(parts) + "\n</svg>\n"


def page(rows: list[Row]) -> str:
    """The figures as Markdown."""
    head = ["| hosts | run | s | CPU s | MB | round trips a host |", "|---:|---|---:|---:|---:|---:|"]
    keys = ("hosts", "run", "seconds", "cpu_seconds", "max_rss_mb", "trips")
    return "\n".join([*head, *("| " + " | ".join(str(row[key]) for key in keys) + " |" for row in rows)]) + "\n"


def main() -> None:
    """Measure with a quarter, a half and all of the hosts; the results go to the directory that is named."""
    hosts, target = int(sys.argv[1]), Path(sys.argv[2])
    target.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        top = tree(Path(scratch) / "collections")
        for count in (hosts // 4, hosts // 2, hosts):
            directory = Path(scratch) / str(count)
            directory.mkdir()
            fleet = Fleet(directory, top, count)
            fleet.sizes = [1, "25%", "50%"]
            fleet.time_limit = None
            for run in RUNS:
                rows.append(measure(fleet, run))
                print(rows[-1], file=sys.stderr, flush=True)
    (target / "rollout.json").write_text(json.dumps(rows, indent=2) + "\n")
    (target / "rollout.md").write_text(page(rows))
    for key, title in (("cpu_seconds", "CPU seconds of the controller"), ("max_rss_mb", "MB of its largest process")):
        (target / f"rollout-{key}.svg").write_text(plot(rows, key, title))
    print(page(rows))


if __name__ == "__main__":
    main()
