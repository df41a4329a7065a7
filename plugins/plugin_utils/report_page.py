# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as one HTML page that needs no network: style, script and plots are inside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible_collections.kpatch.fleet.plugins.plugin_utils import losses, report_facts, report_plots
from ansible_collections.kpatch.fleet.plugins.plugin_utils.report import clock, worst_first
from ansible_collections.kpatch.fleet.plugins.plugin_utils.states import FAULTS, STATES
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

_PAGE = Path(__file__).parent / "page"


def html(report: dict[str, Any]) -> str:
    """The page; everything that comes out of *report* is escaped."""
    # jinja2's own escaping: names of hosts and patches are not ours.
    environment = Environment(
        loader=FileSystemLoader(_PAGE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["tone"] = lambda state: _tone(str(state), report["want"])
    environment.filters["bad"] = lambda states: any(state in FAULTS for state in states)
    environment.filters["clock"] = clock
    return environment.get_template("page.html.j2").render(
        report=report,
        style=Markup((_PAGE / "style.css").read_text(encoding="utf-8")),  # noqa: S704
        script=Markup((_PAGE / "page.js").read_text(encoding="utf-8")),  # noqa: S704
        plots=_plots(report),
        losses=losses.lines(report["loses"]),
        meanings=STATES,
        hosts=worst_first(report),
        elapsed=_elapsed(report),
        grid=_grid(report),
        alike=_alike,
    )


def _tone(state: str, want: str) -> str:
    """How a state looks: a mark tells it, too, for those who see no colours."""
    if state == want:
        return "good"
    return "bad" if state in FAULTS else "calm" if state == "held" else "odd"


def _elapsed(report: dict[str, Any]) -> str:
    """The time from the plan to the last entry; empty if the ledger does not tell it."""
    begin, end = report_facts.when(report["created"]), report_facts.when(report["updated"])
    seconds = int((end - begin).total_seconds()) if begin and end else 0
    hours, minutes = divmod(seconds // 60, 60)
    if seconds <= 0:
        return ""
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds % 60} s" if minutes else f"{seconds} s"


def _grid(report: dict[str, Any]) -> list[tuple[str, list[dict[str, Any]]]]:
    """The hosts by batch, and those that are in none."""
    labels = {None: "in no batch", **{batch["number"]: f"batch {batch['number']}" for batch in report["timeline"]}}
    rows = [(label, [host for host in report["hosts"] if host["batch"] == number]) for number, label in labels.items()]
    return [row for row in [*rows[1:], rows[0]] if row[1]]


def _alike(kernels: dict[str, Any]) -> list[tuple[str, Any]]:
    """What is the same for several kernels once, after their names: people read it, bytes differ in any case."""
    groups: dict[str, tuple[list[str], Any]] = {}
    for release, artifact in sorted(kernels.items()):
        told = {key: artifact.get(key) for key in ("consistency", "functions", "added", "safety")}
        groups.setdefault(repr(told), ([], artifact))[0].append(release)
    return [(", ".join(releases), artifact) for releases, artifact in groups.values()]


def _plots(report: dict[str, Any]) -> dict[str, Any]:
    return {
        "timeline": report_plots.timeline(report["timeline"]),
        "seconds": report_plots.strips(_by_kernel(report, "seconds", 1)),
        "windows": report_plots.strips(_by_kernel(report, "window_ns", 1e-6)),
    }


def _by_kernel(report: dict[str, Any], key: str, factor: float) -> dict[str, list[tuple[str, float]]]:
    groups: dict[str, list[tuple[str, float]]] = {}
    for host in report["hosts"]:
        # How long it took until a host was given up is no transition time.
        if host[key] is not None and host["outcome"] == report["want"]:
            groups.setdefault(host["kernel"], []).append((host["host"], round(host[key] * factor, 3)))
    return groups
