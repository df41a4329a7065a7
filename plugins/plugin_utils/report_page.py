# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as one HTML page that needs no network: style, script and plots are inside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible_collections.kpatch.fleet.plugins.plugin_utils import report_facts, report_plots
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
    environment.filters["clock"] = _clock
    return environment.get_template("page.html.j2").render(
        report=report,
        style=Markup((_PAGE / "style.css").read_text(encoding="utf-8")),  # noqa: S704
        script=Markup((_PAGE / "page.js").read_text(encoding="utf-8")),  # noqa: S704
        plots=_plots(report),
        meanings=STATES,
        parts=report_facts.parts,
    )


def _tone(state: str, want: str) -> str:
    """How a state looks: a mark tells it, too, for those who see no colours."""
    if state == want:
        return "good"
    return "bad" if state in FAULTS else "odd"


def _clock(time: str | None) -> str:
    """A time of the report, which is in UTC, to the second."""
    return time[:19].replace("T", " ") if time else "–"


def _plots(report: dict[str, Any]) -> dict[str, Any]:
    return {
        "timeline": report_plots.timeline(report["timeline"]),
        "seconds": report_plots.strips(_by_kernel(report, "seconds", 1)),
        "windows": report_plots.strips(_by_kernel(report, "window_ns", 1e-6)),
    }


def _by_kernel(report: dict[str, Any], key: str, factor: float) -> dict[str, list[tuple[str, float]]]:
    groups: dict[str, list[tuple[str, float]]] = {}
    for host in report["hosts"]:
        if host[key] is not None:
            groups.setdefault(host["kernel"], []).append((host["host"], round(host[key] * factor, 3)))
    return groups
