# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which hosts the patch set mends of which CVE, as their kernels say now."""

from __future__ import annotations

from typing import Any

from ansible_collections.kpatch.fleet.plugins.plugin_utils import patchset, states, table

_HEAD = ("cve", "patches", "mended", "open", "not known", "open on")
_SHOWN = 5


def matrix(patches: list[dict[str, Any]], looks: dict[str, Any], kernels: dict[str, Any]) -> dict[str, Any]:
    """Each CVE with the patches that mend it together, and the hosts that are 'mended', 'open' or 'unknown'.

    A host is mended if all these patches are on, as the very bytes of the store. Whether a kernel without them is
    vulnerable at all is not known here.
    """
    wanted: dict[str, list[str]] = {}
    for patch in patchset.metadata(patches):
        for cve in patch["cves"]:
            wanted.setdefault(cve, []).append(patch["name"])
    return {cve: {"patches": names, **_hosts(names, looks, kernels)} for cve, names in sorted(wanted.items())}


def lines(found: dict[str, Any]) -> list[str]:
    """The matrix as a table; nothing if the patch set names no CVE."""
    return ["", *table.text(_HEAD, [_row(cve, one) for cve, one in found.items()])] if found else []


def _hosts(names: list[str], looks: dict[str, Any], kernels: dict[str, Any]) -> dict[str, list[str]]:
    hosts: dict[str, list[str]] = {"mended": [], "open": [], "unknown": []}
    for host, look in looks.items():
        hosts[_state(names, look, kernels)].append(host)
    return hosts


def _state(names: list[str], look: Any, kernels: dict[str, Any]) -> str:
    if states.lost(look):
        return "unknown"
    artifacts = kernels.get(look["host"]["kernel"]["release"], {}).get("artifacts", {})
    if any(name not in artifacts for name in names):
        return "open"
    return "mended" if states.applied(look["host"], names, artifacts).state == "applied" else "open"


def _row(cve: str, one: dict[str, Any]) -> tuple[object, ...]:
    more = f" and {len(one['open']) - _SHOWN} more" if len(one["open"]) > _SHOWN else ""
    counts = (len(one["mended"]), len(one["open"]), len(one["unknown"]))
    return (cve, " ".join(one["patches"]), *counts, " ".join(one["open"][:_SHOWN]) + more)
