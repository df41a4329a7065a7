# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The last rollout as metrics, for the node exporter on the controller."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import Any

from ansible_collections.kpatch.fleet.plugins.plugin_utils.errors import FleetError
from ansible_collections.kpatch.fleet.plugins.plugin_utils.states import STATES

try:
    from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

    HAS_PROMETHEUS = True
except ImportError:
    HAS_PROMETHEUS = False

_VERDICTS = ("go", "stop", "done")


def write(path: Path, report: dict[str, Any]) -> None:
    """Put the metrics of *report* at *path*, by rename."""
    if not HAS_PROMETHEUS:
        raise FleetError("kpatch_metrics needs the Python package prometheus-client on the controller: pip install it")
    registry = CollectorRegistry()
    _fill(registry, report)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_to_textfile(str(path), registry)
    except OSError as error:
        raise FleetError(f"{path}: the metrics can't be written: {error.strerror}; the report is there") from error


def _fill(registry: Any, report: dict[str, Any]) -> None:
    hosts = Gauge("kpatch_rollout_hosts", "Hosts of the last rollout by state.", ["state"], registry=registry)
    for state in STATES:
        hosts.labels(state).set(report["counts"].get(state, 0))
    verdict = Gauge("kpatch_rollout_verdict", "1 for the verdict of the last rollout.", ["verdict"], registry=registry)
    now = report["decision"]["verdict"]
    for name in sorted({*_VERDICTS, now}):
        verdict.labels(name).set(name == now)
    shut = sum(batch["gate"] == "shut" for batch in report["timeline"])
    _gauge(registry, "kpatch_rollout_batches", "Batches of the last rollout.", len(report["timeline"]))
    _gauge(registry, "kpatch_rollout_gates_shut", "Gates of the last rollout that are shut.", shut)
    _gauge(registry, "kpatch_rollout_updated_seconds", "Last entry of the ledger.", _seconds(report["updated"]))
    slowest = max((host["seconds"] for host in report["hosts"] if host["seconds"] is not None), default=0)
    _gauge(registry, "kpatch_rollout_slowest_host_seconds", "The longest change of a host.", slowest)
    coverage = Gauge("kpatch_patch_hosts", "Hosts on which a patch is on.", ["patch"], registry=registry)
    for share in report["coverage"]["patches"]:
        coverage.labels(share["patch"]).set(share["on"])


def _gauge(registry: Any, name: str, told: str, value: float) -> None:
    Gauge(name, told, registry=registry).set(value)


def _seconds(text: str) -> float:
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
    except ValueError:
        return time.time()
