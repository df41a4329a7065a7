# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the benchmarks of one kernel found: tables in Markdown, plots as SVG, and both in the page.

Of what noise can only lengthen the minimum is told beside the median.
"""

from __future__ import annotations

import platform
import re
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt

mpl.use("svg")
# The same data give the same file.
mpl.rcParams["svg.hashsalt"] = "kpatch.fleet"

Found = dict[str, Any]
BEGIN, END = "<!-- bench-core: begin -->", "<!-- bench-core: end -->"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """In Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def spread(nanoseconds: Iterable[float]) -> str:
    """Minimum and median."""
    values = list(nanoseconds)
    return f"{min(values) / 1e6:.2f} / {statistics.median(values) / 1e6:.2f} ms"


def ratio(samples: Sequence[dict[str, int]], above: str, below: str) -> float:
    """The median of the ratios of pairs that were measured one after the other."""
    return statistics.median(sample[above] / sample[below] for sample in samples)


_WINDOWS = ("window", "all stacks in it", "empty stop_machine()", "window : empty", "all stacks : empty")


def _window_cells(samples: Sequence[dict[str, int]]) -> list[str]:
    spreads = [spread(s[what] for s in samples) for what in ("window", "whole", "empty")]
    return [*spreads, *(f"{ratio(samples, what, 'empty'):.2f}" for what in ("window", "whole"))]


def _each_more(entries: Sequence[Found], key: str, unit: str) -> str:
    """How both windows grow; nothing can be told of one point."""
    if len(entries) < 2:
        return ""
    window, whole = (per_unit(minima(entries, key, what)) / 1e3 for what in ("window", "whole"))
    return f"\nEach {unit} more costs {window:.2f} µs; {whole:.2f} µs if all stacks are looked at in the window.\n"


def per_unit(points: Sequence[tuple[float, float]]) -> float:
    """Least squares: how much each one more costs."""
    return statistics.linear_regression([x for x, _y in points], [y for _x, y in points]).slope


def minima(found: Sequence[Found], key: str, what: str) -> list[tuple[float, float]]:
    """The least of *what* for each count."""
    return [(float(entry[key]), float(min(s[what] for s in entry["samples"]))) for entry in found]


def windows_by_tasks(found: Found) -> str:
    """How the window grows with the tasks."""
    rows = [[str(e["tasks"]), "busy" if e["busy"] else "idle", *_window_cells(e["samples"])] for e in found["by_tasks"]]
    idle = [e for e in found["by_tasks"] if not e["busy"]]
    return table(("tasks", "load", *_WINDOWS), rows) + _each_more(idle, "tasks", "task of an idle machine")


def windows_by_functions(found: Found) -> str:
    """How the window grows with the functions."""
    entries = found["by_functions"]
    rows = [[str(e["functions"]), f"{e['load_ns'] / 1e6:.0f} ms", *_window_cells(e["samples"])] for e in entries]
    text = table(("functions", "load until enabled", *_WINDOWS), rows)
    return text + _each_more(entries, "functions", "function")


def calls(found: Found) -> str:
    """What a call of a patched function costs."""
    rows = []
    for name in ("nobody", "kpatch", "livepatch"):
        samples = [s for entry in found["calls"] if entry["by"] == name for s in entry["samples"]]
        if samples:
            least = min(s["patched"] for s in samples) / min(s["twin"] for s in samples)
            rows.append([name, f"{ratio(samples, 'patched', 'twin'):.2f}", f"{least:.2f}"])
    return table(("patched by", "call : call of its unpatched twin, median of pairs", "of the minima"), rows)


def transitions(found: Found) -> str:
    """How long a switch takes, by model."""
    rows = []
    for entry in found["transitions"]:
        cells = [spread(sample[way] for sample in entry["samples"]) for way in ("on", "off")]
        rows.append([entry["model"], "busy" if entry["busy"] else "idle", *cells])
    return table(("model", "load", "loaded until on", "off"), rows)


_LINES = {
    "window": ("switch", "o-"),
    "whole": ("switch that looks at all stacks", "s:"),
    "empty": ("empty stop_machine()", "x--"),
}


def plot_windows(found: Found, entries: str, key: str, path: Path) -> None:
    """The window over tasks or functions, and what a stop for nothing takes."""
    figure, axes = plt.subplots(figsize=(7, 4))
    for busy in (False, True):
        chosen = [entry for entry in found[entries] if entry.get("busy", False) == busy]
        if not chosen:
            continue
        name = "busy" if busy else "idle"
        counts = [entry[key] for entry in chosen]
        for what, (label, style) in _LINES.items():
            medians = [statistics.median(s[what] for s in entry["samples"]) / 1e6 for entry in chosen]
            axes.plot(counts, medians, style, label=f"{label}, {name}")
    axes.set(xlabel=key, ylabel="median, ms (emulated)", title=f"Stop window, {found['release']}")
    save(figure, axes, path)


def plot_transitions(found: Found, path: Path) -> None:
    """Time until a patch is on, by model."""
    figure, axes = plt.subplots(figsize=(7, 4))
    models = list(dict.fromkeys(entry["model"] for entry in found["transitions"]))
    for offset, busy in ((-0.2, False), (0.2, True)):
        chosen = {e["model"]: e["samples"] for e in found["transitions"] if e["busy"] == busy}
        medians = [statistics.median(s["on"] for s in chosen[model]) / 1e6 for model in models]
        places = [number + offset for number in range(len(models))]
        axes.barh(places, medians, 0.4, label="busy" if busy else "idle")
    axes.set_yticks(range(len(models)), models)
    axes.set(xlabel="loaded until on, median, ms (emulated)", title=f"Transitions, {found['release']}", xscale="log")
    save(figure, axes, path)


def save(figure: Any, axes: Any, path: Path) -> None:
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    # Without a date the same data give the same file.
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def machine() -> str:
    """What it was measured on."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model = re.search(r"model name\s*:\s*(.*)", text)
    cores = len(re.findall(r"^processor", text, re.MULTILINE))
    return f"{cores} cores of {model[1] if model else platform.machine()}"


def section(found: Found, pictures: Path) -> str:
    """One kernel's results; plots go into the directory *pictures*."""
    pictures.mkdir(parents=True, exist_ok=True)
    base = found["release"]
    plot_windows(found, "by_tasks", "tasks", pictures / f"{base}-tasks.svg")
    plot_windows(found, "by_functions", "functions", pictures / f"{base}-functions.svg")
    plot_transitions(found, pictures / f"{base}-transitions.svg")
    names = {kind: f"![{kind}]({pictures.name}/{base}-{kind}.svg)" for kind in ("tasks", "functions", "transitions")}
    parts = [
        f"### {base}, {found['cpus']} processors\n",
        f"#### The stop window, by tasks\n\n{windows_by_tasks(found)}\n{names['tasks']}\n",
        f"#### The stop window, by functions\n\n{windows_by_functions(found)}\n{names['functions']}\n",
        f"#### Calls\n\n{calls(found)}",
        f"#### Transitions\n\n{transitions(found)}\n{names['transitions']}\n",
    ]
    return "\n".join(parts)


def write(page: Path, command: str, results: Iterable[Found]) -> None:
    """Put the results of the core module's benchmarks into *page*."""
    where = f"{machine()}, QEMU without hardware acceleration (TCG)"
    head = f"Measured on {where}, by `{command}`. Minimum / median where there are two figures.\n"
    put(page, BEGIN, END, "\n".join([head, *(section(found, page.with_suffix("")) for found in results)]))


def put(page: Path, begin: str, end: str, text: str) -> None:
    """Put *text* between two marks of *page*."""
    before, _begin, rest = page.read_text(encoding="utf-8").partition(begin)
    after = rest.partition(end)[2]
    page.write_text(f"{before}{begin}\n\n{text}\n{end}{after or chr(10)}", encoding="utf-8")
