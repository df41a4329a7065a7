# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as a Markdown page, for tickets and merge requests."""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.kpatch.fleet.plugins.plugin_utils import losses, report, table

# What Markdown, or the HTML that it allows, could take for more than text. Of '|' the table takes care.
_SPECIAL = re.compile(r"([\\`*_\[\]<>#~&])")


def markdown(document: dict[str, Any]) -> str:
    """The page; what comes out of *document* is escaped."""
    lines = [f"# {_text(report.title(document))}", ""]
    lines += [f"Patches: {_text(', '.join(document['patches']))}. Planned {report.clock(document['created'])},"]
    lines += [f"last entry {_text(report.clock(document['updated']))} UTC.", "", _text(report.counts(document))]
    lines += [line for told in losses.lines(document["loses"]) for line in ("", f"**{_text(told)}**")]
    for head, section in _SECTIONS.items():
        if content := section(document):
            lines += ["", f"## {head}", "", *content]
    return "\n".join(lines) + "\n"


def _missing(document: dict[str, Any]) -> list[str]:
    return [f"- {_text(note)}" for note in document["missing"]]


def _why(document: dict[str, Any]) -> list[str]:
    return [f"- {_text(reason)}" for reason in document["decision"]["reasons"]]


def _next(document: dict[str, Any]) -> list[str]:
    return [f"- {_text(step)}" for step in document["next"]]


def _hosts(document: dict[str, Any]) -> list[str]:
    head = ("host", "kernel", "batch", "before", "state", "took", "stopped for", "taint", "why")
    return table.markdown(head, [tuple(_text(cell) for cell in _host(host)) for host in report.worst_first(document)])


def _host(host: dict[str, Any]) -> tuple[object, ...]:
    return (
        host["host"],
        host["kernel"],
        "-" if host["batch"] is None else host["batch"],
        host["before"],
        host["state"],
        "-" if host["seconds"] is None else f"{host['seconds']:.1f} s",
        "-" if host["window_ns"] is None else f"{host['window_ns'] / 1e6:.3f} ms",
        f"{host['taint_before'] or '-'} → {host['taint_after'] or '-'}",
        host["reason"],
    )


def _batches(document: dict[str, Any]) -> list[str]:
    rows = [
        (
            batch["number"],
            batch["hosts"],
            batch["gate"] or "not reached",
            _text(batch["verdict"] or "-"),
            report.clock(batch["begin"]),
            report.clock(batch["end"]),
            _text(_tally(batch["states"])),
            _text(_tally(batch["undone_states"])) or "-",
        )
        for batch in document["timeline"]
    ]
    return (
        table.markdown(("batch", "hosts", "gate", "verdict", "begin", "end", "outcome", "taken back"), rows)
        if rows
        else []
    )


def _tally(states: dict[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in sorted(states.items()))


def _coverage(document: dict[str, Any]) -> list[str]:
    kernels = [
        (_text(share["kernel"]), f"{share['done']} of {share['hosts']}", _text(", ".join(share["artifacts"])) or "-")
        for share in document["coverage"]["kernels"]
    ]
    patches = [
        (_text(share["patch"]), _share(share), _text(", ".join(share["kernels"])) or "-")
        for share in document["coverage"]["patches"]
    ]
    return [
        *table.markdown(("kernel", f"hosts that are {document['want']}", "artifacts in the store"), kernels),
        "",
        *table.markdown(("patch", "hosts on which it is on", "built for"), patches),
    ]


def _fleet(document: dict[str, Any]) -> list[str]:
    rows = [
        (_text(group["kernel"]), _text(_modules(group)), _text(f"{len(group['hosts'])}: {', '.join(group['hosts'])}"))
        for group in document["fleet"]
    ]
    return table.markdown(("kernel", "modules (build id)", "hosts"), rows)


def _modules(group: dict[str, Any]) -> str:
    told = [f"{one['module']} ({(one['build_id'] or '?')[:16]})" for one in group["modules"]]
    return ", ".join([*told, *group["others"]]) or ("none" if group["read"] else "not known")


def _share(share: dict[str, Any]) -> str:
    unknown = share["hosts"] - share["known"]
    return f"{share['on']} of {share['hosts']}" + (f", {unknown} not known" if unknown else "")


def _artifacts(document: dict[str, Any]) -> list[str]:
    rows = [
        (_text(release), _text(one["file"]), one["sha256"], _text(one.get("signer") or "not signed"))
        for release, kernel in sorted(document["artifacts"].items())
        for one in kernel.values()
    ]
    return table.markdown(("kernel", "artifact", "sha256", "signer"), rows) if rows else []


_SECTIONS = {
    "What this report can't tell": _missing,
    "Why": _why,
    "What to do next": _next,
    "Batches": _batches,
    "Hosts": _hosts,
    "Coverage": _coverage,
    "What runs where": _fleet,
    "Artifacts": _artifacts,
}


def _text(value: object) -> str:
    return _SPECIAL.sub(r"\\\1", str(value))
