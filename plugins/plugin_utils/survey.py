# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a fleet runs, as data and as a table, read out of one look at each host."""

from __future__ import annotations

from typing import Any

from ansible_collections.kpatch.fleet.plugins.module_utils.manifest import LIVEPATCH
from ansible_collections.kpatch.fleet.plugins.plugin_utils import states, table

# What of a kernel tells a builder which one it is.
_BUILDS = ("release", "version", "build_id", "machine")
_HEAD = ("host", "kernel", "build id", "core", "patches", "taint")


def kernels(looks: dict[str, Any]) -> list[dict[str, Any]]:
    """Each distinct kernel once: 'label', 'kernel' as the builder's modules take it, and the 'hosts' that run it."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for name, look in looks.items():
        if states.lost(look):
            continue
        kernel = {key: look["host"]["kernel"][key] for key in _BUILDS}
        one = found.setdefault((kernel["release"], str(kernel["build_id"])), {"kernel": kernel, "hosts": []})
        one["hosts"].append(name)
    return [{"label": _label(key, one["hosts"]), **one} for key, one in sorted(found.items())]


def lost(looks: dict[str, Any]) -> dict[str, str]:
    """The hosts of which nothing is known, and why."""
    verdicts = {name: states.lost(look) for name, look in looks.items()}
    return {name: verdict.reason for name, verdict in verdicts.items() if verdict}


def lines(looks: dict[str, Any], assessed: dict[str, Any] | None = None) -> list[str]:
    """The table; with the states of *assessed* hosts in two more columns, and lost hosts with their reason below."""
    head = (*_HEAD, "state", "why") if assessed else _HEAD
    rows = [(*_row(name, look), *_state(name, assessed)) for name, look in looks.items()]
    told = [f"{name} is lost: {reason}" for name, reason in lost(looks).items()]
    return [*table.text(head, rows), "", *told, *_idle_lines(looks, assessed)]


def _idle_lines(looks: dict[str, Any], assessed: dict[str, Any] | None) -> list[str]:
    """Where the core module has stayed though all that is wanted is on and nothing of it needs one."""
    names = [name for name, one in (assessed or {}).items() if one["state"] == "applied" and idle(looks[name]["host"])]
    if not names:
        return []
    mend = "the role kpatch.fleet.core takes it off (core_state: absent)"
    return [f"the core module is loaded and nothing needs it on {', '.join(names)}; {mend}"]


def idle(host: dict[str, Any]) -> bool:
    """Whether the core module is loaded, and no patch that uses it."""
    patches = host.get("patches") or []
    return bool(host["core"]) and all(patch.get("backend") == LIVEPATCH for patch in patches)


def _label(key: tuple[str, str], hosts: list[str]) -> str:
    return f"{key[0]} (build id {key[1][:12]}, {len(hosts)} host{'' if len(hosts) == 1 else 's'})"


def _row(name: str, look: Any) -> tuple[str, ...]:
    if states.lost(look):
        return (name, "lost", "-", "-", "-", "-")
    host = look["host"]
    kernel, core = host["kernel"], host["core"]
    patches = [_patch(patch) for patch in [*(host["patches"] or []), *(host["livepatches"] or [])]]
    build_id = (kernel["build_id"] or "?")[:12]
    taint = "".join(kernel["taint"]["flags"])
    return (
        name,
        kernel["release"],
        build_id,
        f"abi {core['abi']}{' (idle)' if idle(host) else ''}" if core else "-",
        " ".join(patches) or "-",
        taint or "-",
    )


def _patch(patch: dict[str, Any]) -> str:
    if patch.get("transition"):
        return f"{patch['module']} (switching)"
    if patch.get("enabled"):
        return str(patch["module"])
    return f"{patch['module']} ({'off, loaded until a reboot' if patch.get('forced') else 'off'})"


def _state(name: str, assessed: dict[str, Any] | None) -> tuple[str, ...]:
    if not assessed:
        return ()
    state = assessed[name]["state"]
    # Why a host is lost is said below the table, in full.
    return (state, "" if state == "lost" else assessed[name]["reason"])
