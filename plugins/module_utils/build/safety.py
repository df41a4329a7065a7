# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The safety report: what a patch module does to the running kernel, why each part is in it, and what to think of.

It is an artifact beside the module, as JSON and as text. It judges what can be seen in code and types; whether new code
and old data agree in meaning is its reader's to judge.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import Added, EmittedObject, ObjectDiff

JSON_NAME, TEXT_NAME = "report.json", "report.txt"
_FORMAT = 1
_NAMED = 8  # functions that one line names
Report = dict[str, Any]


def report(
    manifest: Mapping[str, Any],
    emitted: EmittedObject,
    diffs: Iterable[ObjectDiff],
    why: str,
    moved: Iterable[object] = (),
    limits: Iterable[Added] = (),
) -> Report:
    """What is to be said.

    *why* is the backend's, *moved* the hunks that stand at other lines than the diff says, *limits* what the backend
    can't do in this kernel.
    """
    diffs = list(diffs)
    functions = [{"object": f.object, "name": f.name, "reason": f.reason} for f in emitted.functions]
    data = [{"object": a.object, "name": a.name, "reason": a.reason} for diff in diffs for a in diff.added_data]
    risks = _risks(diffs)
    risks += [{"where": limit.name, "kind": "backend", "risk": limit.reason} for limit in limits]
    return {
        "format": _FORMAT,
        "name": manifest["name"],
        "kernel": manifest["kernel"]["release"],
        "backend": {"name": manifest["backend"], "reason": why},
        "consistency": {**manifest["consistency"], "suffices": _suffices(functions, risks)},
        "replaced": functions,
        "hooks": [{"object": h.object, "name": h.name, "reason": f"{h.kind} hook"} for h in emitted.hooks],
        "added": [{"object": a.object, "name": a.name, "reason": a.reason} for a in emitted.added],
        "data": data,
        "removed": sorted({name for diff in diffs for name in diff.removed}),
        "offsets": [str(each) for each in moved],
        "risks": risks,
    }


def files(found: Report) -> dict[str, str]:
    """The report's files, by name."""
    return {JSON_NAME: json.dumps(found, indent=2, sort_keys=True) + "\n", TEXT_NAME: text(found)}


def offsets(path: Path) -> list[str]:
    """What the report beside an artifact in the directory *path* says of hunks that moved. A core module has none."""
    place = path / JSON_NAME
    if not place.is_file():
        return []
    told: list[str] = json.loads(place.read_text(encoding="utf-8")).get("offsets", [])
    return told


def place(path: Path | None) -> str | None:
    """Where the report for its reader is that lies beside an artifact in the directory *path*."""
    return str(path / TEXT_NAME) if path is not None and (path / TEXT_NAME).is_file() else None


def outcome(changed: bool, manifest: Mapping[str, Any] | None, report_at: str | None) -> str:
    """What a build has come to, in one line: 'was built: replaces foo; …'."""
    if manifest is None:
        return "would be built"
    done = "was built" if changed else "is in the store"
    names = [function["name"] for function in manifest["functions"]]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    replaces = f", replaces {', '.join(names[:_NAMED])}{more}" if names else ""
    return f"{done}: {manifest['file']}{replaces}" + (f"; its safety report: {report_at}" if report_at else "")


def text(found: Report) -> str:
    """The report for its reader."""
    lines = [f"{found['name']} for kernel {found['kernel']}", ""]
    lines += [f"Backend {found['backend']['name']}: {found['backend']['reason']}."]
    consistency = found["consistency"]
    lines += [f"Switches with leave {consistency['leave']}, switch {consistency['switch']}."]
    lines += [f"What suffices: {consistency['suffices']}", ""]
    for key, title in _TITLES.items():
        if found[key]:
            lines += [title, *(f"  {_line(entry)}" for entry in found[key]), ""]
    if not found["risks"]:
        lines += ["No risk was found in code and types.", ""]
    return "\n".join(lines)


_TITLES = {
    "replaced": "Functions that are replaced:",
    "hooks": "Functions that are called when their object is switched:",
    "added": "Functions that come along:",
    "data": "Data that comes along:",
    "removed": "Functions that the patched source has no more; they stay in the kernel:",
    "offsets": "Hunks at other lines than the diff says; look whether it is the place that is meant:",
    "risks": "Risks:",
}


def _line(entry: Any) -> str:
    if isinstance(entry, str):
        return entry
    if "risk" in entry:
        return f"{entry['where']}: {entry['risk']}"
    return f"{entry['object']}: {entry['name']}: {entry['reason']}"


def _risks(diffs: list[ObjectDiff]) -> list[dict[str, str]]:
    seen = Counter(name for diff in diffs for name in diff.types)
    found = [{"where": name, "kind": "type", "risk": _TYPE.format(count=count)} for name, count in seen.items()]
    for diff in diffs:
        found += [{"where": note.name, "kind": "note", "risk": note.reason} for note in diff.notes]
        found += [{"where": left.name, "kind": "left", "risk": _LEFT.format(left.reason)} for left in diff.left]
        found += [{"where": f.name, "kind": "force", "risk": _FORCED} for f in diff.changed if f.forced]
        found += [{"where": f.name, "kind": "exit", "risk": _EXIT.format(f.object)} for f in diff.changed if f.exit]
        found += [
            {"where": added.name, "kind": "data", "risk": _DATA}
            for added in diff.added_data
            if "static" in added.reason or "new" in added.reason
        ]
    return sorted(found, key=lambda risk: (risk["kind"], risk["where"]))


_TYPE = (
    "the patch defines this type anew ({count} files see it): what the kernel has allocated already has the old "
    "layout, and code that is not replaced goes on using that; use a shadow variable for a new member"
)
_LEFT = "{}: it stays as it is; look whether what is replaced relies on what it would do otherwise"
_FORCED = (
    "it is forced: tasks that are in it go on in the old code while others use the new one; the module stays loaded "
    "until the next boot"
)
_EXIT = (
    "{0} leaves by it: while it is switched {0} can't be removed, and while {0} is being removed the patch can't be "
    "disabled"
)
_DATA = "it begins as initialised when the module is loaded, and is gone when it is unloaded"


def _suffices(functions: list[Any], risks: list[dict[str, str]]) -> str:
    """The weakest consistency under which old and new code never meet in a way that types show."""
    if any(risk["kind"] == "type" for risk in risks):
        return (
            "leave kernel, switch kernel, and only with shadow variables: a type changes, so old and new code must not "
            "handle the same object."
        )
    if not functions:
        return "leave function, switch function: no function is replaced; what the patch does is in its hooks."
    if len(functions) > 1:
        return (
            "leave patched_set, switch thread: several functions change, and one of them may rely on another; no type "
            "changes, so threads may differ for a while."
        )
    return "leave function, switch function: a single function changes, and no type does."
