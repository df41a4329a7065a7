# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of one rollout or rollback: what is to happen, where and in which batches, frozen before it begins."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Optional, Union

from ansible_collections.kpatch.fleet.plugins.module_utils import manifest
from ansible_collections.kpatch.fleet.plugins.plugin_utils import states
from ansible_collections.kpatch.fleet.plugins.plugin_utils.errors import FleetError
from ansible_collections.kpatch.fleet.plugins.plugin_utils.publish import publish
from ansible_collections.kpatch.fleet.plugins.plugin_utils.states import Artifacts, Verdict

FORMAT = 1
FILE = "plan.json"
LEDGER = "ledger.jsonl"
# What a plan keeps of a manifest: enough to know the artifact again, in the store and in a kernel.
KEPT = ("file", "input_sha256", "sha256", "srcversion", "build_id", "functions")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PERCENT = re.compile(r"([1-9][0-9]?|100)%")


@dataclass(frozen=True)
class Order:
    """What the operator wants: the patches *names* 'applied' out of *store*, or 'absent'; and how it goes on."""

    want: str
    names: list[str]
    store: Path
    core: bool
    batches: list[int | str]
    require_all: bool


def make(identity: str, order: Order, looks: dict[str, Any], check: bool) -> dict[str, Any]:
    """The plan for the hosts of *looks*."""
    kernels = {release: kernel for release, kernel in _kernels(order, looks)}
    hosts = {name: _host(order, look, kernels) for name, look in looks.items()}
    acting = [name for name, host in hosts.items() if acts(order.want, host["state"])]
    return {
        "format": FORMAT,
        "id": identity,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "check": check,
        "want": order.want,
        "patches": order.names,
        "core": order.core,
        "store": str(order.store),
        "require_all": order.require_all,
        "kernels": kernels,
        "hosts": hosts,
        "batches": split(acting, order.batches),
    }


def acts(want: str, state: str) -> bool:
    """Whether a host found in *state* is to be changed."""
    return state != want and state not in states.UNTOUCHABLE


def split(hosts: list[str], sizes: list[int | str]) -> list[list[str]]:
    """*hosts* in batches; a size is a number, or a share of all of them. The last size holds for the rest."""
    counts = [_count(size, len(hosts)) for size in sizes]
    if not counts:
        raise FleetError("kpatch_batches is empty: give at least one size, e.g. [1, '50%', '100%']")
    batches: list[list[str]] = []
    taken = 0
    while taken < len(hosts):
        count = counts[min(len(batches), len(counts) - 1)]
        batches.append(hosts[taken : taken + count])
        taken += count
    return batches


def _count(size: int | str, total: int) -> int:
    text = str(size).strip()
    if share := _PERCENT.fullmatch(text):
        return max(1, total * int(share.group(1)) // 100)
    if text.isdigit() and int(text) > 0:
        return int(text)
    raise FleetError(f"kpatch_batches: {size!r} is no size: use a number from 1, or a share from '1%' to '100%'")


def batch_of(plan: dict[str, Any], host: str) -> int:
    """The number of the batch that *host* is in, counted from 1."""
    for number, hosts in enumerate(plan["batches"], start=1):
        if host in hosts:
            return number
    raise FleetError(f"{host} is in no batch of the plan {plan['id']}: it was not there when the plan was made")


def artifact(store: Path, release: str, name: str) -> dict[str, Any] | None:
    """The manifest of what the store holds now for a kernel release, or None."""
    path = store / manifest.check_release(release) / name / "current" / "manifest.json"
    return manifest.load(path) if path.exists() else None


def changed_artifacts(plan: dict[str, Any]) -> list[str]:
    """What in the store is no longer what the plan was made with."""
    return [
        f"{release}/{name}"
        for release, kernel in plan["kernels"].items()
        for name, kept in kernel["artifacts"].items()
        if (artifact(Path(plan["store"]), release, name) or {}).get("input_sha256") != kept["input_sha256"]
    ]


def create(home: Path, identity: str) -> Path:
    """The new directory of a rollout; FleetError if there was one of that name."""
    path = home / "rollouts" / check_id(identity)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700)
    except FileExistsError as error:
        raise FleetError(f"{path}: there was a rollout of that name: choose another kpatch_rollout_id") from error
    except OSError as error:
        raise FleetError(f"{path}: can't be made: {error.strerror}; mend that or set kpatch_home") from error
    return path


def check_id(identity: str) -> str:
    """Return *identity* if it may name a rollout, and thus its directory."""
    if _ID.fullmatch(identity):
        return identity
    raise FleetError(f"kpatch_rollout_id: {identity!r} can't name a rollout: use letters, digits, '.', '_' and '-'")


def write(directory: Path, plan: dict[str, Any]) -> None:
    """Keep the plan; from now on it does not change."""
    publish(directory / FILE, json.dumps(plan, indent=2, sort_keys=True) + "\n")


def load(directory: Path) -> dict[str, Any]:
    """The plan in *directory*."""
    path = directory / FILE
    try:
        plan = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FleetError(f"{path}: can't be read: {error.strerror}; start the playbook again") from error
    except ValueError as error:
        raise FleetError(f"{path}: is no plan: {error}; start the playbook again") from error
    if not isinstance(plan, dict) or plan.get("format") != FORMAT:
        raise FleetError(f"{path}: is no plan of format {FORMAT}; start the playbook again")
    return plan


def _kernels(order: Order, looks: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """What the store holds for each kernel release of the fleet. Taking things off needs no artifact."""
    if order.want == "absent":
        return []
    releases = sorted({look["host"]["kernel"]["release"] for look in looks.values() if not states.lost(look)})
    return [(release, _stored(order, release)) for release in releases]


def _stored(order: Order, release: str) -> dict[str, Any]:
    found: Artifacts = {}
    builds: dict[str, str] = {}
    for name in [manifest.CORE_NAME, *order.names]:
        if one := artifact(order.store, release, name):
            found[name] = {key: one[key] for key in KEPT}
            builds[name] = one["kernel"]["build_id"]
    return {"artifacts": found, "builds": builds}


def _host(order: Order, look: Any, kernels: dict[str, Any]) -> dict[str, Any]:
    if verdict := states.lost(look):
        return {"state": verdict.state, "reason": verdict.reason}
    host = look["host"]
    kernel = host["kernel"]
    verdict = _absent(order, host) if order.want == "absent" else _applied(order, host, kernels[kernel["release"]])
    return {
        "state": verdict.state,
        "reason": verdict.reason,
        "release": kernel["release"],
        "build_id": kernel["build_id"],
        "boot_id": kernel["boot_id"],
        "taint": kernel["taint"]["flags"],
    }


def _applied(order: Order, host: dict[str, Any], kernel: dict[str, Any]) -> Verdict:
    for name in [manifest.CORE_NAME, *order.names]:
        build = kernel["builds"].get(name)
        if build is None:
            return Verdict("needs-build", f"the store has no {name} for {host['kernel']['release']}")
        if build != host["kernel"]["build_id"]:
            return Verdict("needs-build", f"the store's {name} is for another build of {host['kernel']['release']}")
    artifacts = kernel["artifacts"]
    verdict = states.applied(host, order.names, artifacts)
    return verdict if verdict.state == "applied" else states.foreign(host, artifacts) or verdict


def _absent(order: Order, host: dict[str, Any]) -> Verdict:
    ours = {manifest.module_name(name) for name in order.names}
    others = [patch["module"] for patch in host.get("patches") or [] if patch["module"] not in ours]
    if order.core and others:
        return Verdict("foreign-patch", f"the core module can't go: {', '.join(others)} needs it; name it too")
    return states.present(host, order.names, order.core)
