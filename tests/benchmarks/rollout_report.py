# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What rollouts to simulated hosts cost: tables in Markdown, plots as SVG, and both in the page."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from ansible.release import __version__ as ansible_core
from report import machine, per_unit, put, save, table

Row = dict[str, Any]
BEGIN, END = "<!-- bench-rollout: begin -->", "<!-- bench-rollout: end -->"
_COLUMNS = {
    "hosts": "hosts",
    "run": "run",
    "seconds": "s",
    "cpu_seconds": "CPU s",
    "max_rss_mb": "MB, the largest process",
    "trips": "round trips a host",
    "files": "operations for files",
}


def runs(rows: Sequence[Row]) -> str:
    """Every run."""
    cells = [[*(str(row[key]) for key in _COLUMNS), f"{row['bytes'] / 1e3:.0f}"] for row in rows]
    return table([*_COLUMNS.values(), "kB sent to a host"], cells)


def ratios(rows: Sequence[Row], of: str, to: Sequence[str]) -> str:
    """How many times as long as each of *to* the run *of* took, by the number of hosts."""
    found = {(row["hosts"], row["run"]): row for row in rows}
    counts = sorted({row["hosts"] for row in rows})
    cells = []
    for count in counts:
        pairs = [(found[count, of][key], found[count, one][key]) for one in to for key in ("seconds", "cpu_seconds")]
        cells.append([str(count), *(f"{above / below:.2f}" for above, below in pairs)])
    head = [f"{of} : {one}, {what}" for one in to for what in ("time", "CPU")]
    return table(["hosts", *head], cells)


def growth(rows: Sequence[Row]) -> str:
    """What each host more costs, by each run that more than one fleet had."""
    cells = []
    for run in dict.fromkeys(row["run"] for row in rows):
        chosen = [row for row in rows if row["run"] == run]
        if len(chosen) < 2:
            continue
        cpu, memory = (per_unit([(row["hosts"], row[key]) for row in chosen]) for key in ("cpu_seconds", "max_rss_mb"))
        cells.append([run, f"{cpu * 1e3:.0f} ms", f"{memory * 1e3:.0f} kB"])
    return table(["run", "CPU for each host more", "memory for each host more"], cells)


def payloads(rows: Sequence[Row]) -> str:
    """The largest that was sent of each module, with its arguments; compressed, as Ansible does."""
    sizes: dict[str, int] = {}
    for row in rows:
        for name, size in row["payloads"].items():
            sizes[name] = max(size, sizes.get(name, 0))
    least = sizes["ping"]
    return table(
        ["module", "kB", "more than ping, kB"],
        [[name, f"{size / 1e3:.0f}", f"{(size - least) / 1e3:.0f}"] for name, size in sizes.items()],
    )


def plot(rows: Sequence[Row], key: str, label: str, path: Path) -> None:
    """A line for each kind of run over the hosts."""
    figure, axes = plt.subplots(figsize=(7, 4))
    for run in dict.fromkeys(row["run"] for row in rows):
        points = [(row["hosts"], row[key]) for row in rows if row["run"] == run]
        axes.plot(*zip(*points), "o-", label=run)
    axes.set(xlabel="hosts", ylabel=label)
    axes.set_ylim(bottom=0)
    save(figure, axes, path)


def text(rows: Sequence[Row]) -> str:
    """All tables."""
    pings = [run for run in dict.fromkeys(row["run"] for row in rows) if "ping" in run]
    return "\n".join([runs(rows), ratios(rows, "no change", pings), growth(rows), payloads(rows)])


def write(page: Path, command: str, rows: Sequence[Row]) -> None:
    """Put the results into *page*, and the plots into a directory of its name beside it."""
    pictures = page.with_suffix("")
    pictures.mkdir(exist_ok=True)
    labels = {"seconds": "s", "cpu_seconds": "CPU s", "max_rss_mb": "MB, the largest process"}
    for key, label in labels.items():
        plot(rows, key, label, pictures / f"rollout-{key}.svg")
    shown = "\n".join(f"![{label}]({pictures.name}/rollout-{key}.svg)\n" for key, label in labels.items())
    python, forks = platform.python_version(), os.environ["ANSIBLE_FORKS"]
    where = f"{machine()}, ansible-core {ansible_core}, Python {python}, {forks} forks"
    put(page, BEGIN, END, f"Measured on {where}, by `{command}`.\n\n{text(rows)}\n{shown}")


def main() -> None:
    """Print the tables, and put them into a page if one is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", help="what has measured")
    parser.add_argument("figures", type=Path, nargs="+", help="the files that it wrote")
    parser.add_argument("--page", type=Path)
    arguments = parser.parse_args()
    rows = [row for path in arguments.figures for row in json.loads(path.read_text())]
    print(text(rows))
    if arguments.page:
        write(arguments.page, arguments.command, rows)


if __name__ == "__main__":
    main()
