# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of one rollout or rollback: what is to happen, where and in which batches, frozen before it begins."""

from __future__ import annotations

import json
import re
import tempfile
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible_collections.kpatch.fleet.plugins.module_utils import manifest
from ansible_collections.kpatch.fleet.plugins.module_utils.host import stacking
from ansible_collections.kpatch.fleet.plugins.module_utils.host.errors import HostError
from ansible_collections.kpatch.fleet.plugins.module_utils.signature import SignatureError
from ansible_collections.kpatch.fleet.plugins.plugin_utils import (
    batches,
    guard,
    host_plan,
    patchset,
    runs,
    safety,
    signer,
    states,
)
from ansible_collections.kpatch.fleet.plugins.plugin_utils import policy as policies
from ansible_collections.kpatch.fleet.plugins.plugin_utils.errors import FleetError
from ansible_collections.kpatch.fleet.plugins.plugin_utils.policy import Policy
from ansible_collections.kpatch.fleet.plugins.plugin_utils.publish import publish
from ansible_collections.kpatch.fleet.plugins.plugin_utils.states import Verdict

FORMAT = 1
FILE = "plan.json"
LEDGER = "ledger.jsonl"
# What hosts were found as when the rollout was last resumed: the plan itself stays as it was written.
BASELINE = "baseline.json"
# What a plan keeps of a manifest: enough to know the artifact again, in the store and in a kernel.
KEPT = ("file", "input_sha256", "sha256", "srcversion", "build_id", "functions")
# What it keeps for the report, where the manifest has it.
TOLD = ("added", "size", "backend", "serial", "replace")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Order:
    """What the operator wants: *patches* 'applied' out of *store*, or 'absent', the core module too if *core*.

    A patch is a dictionary with at least its 'name'; 'leave' and 'switch', where given, have to be the artifact's.
    *policy* is what policy.check() returned, *domains* the failure domain of each host by its name.
    Artifacts that are older than those of before are taken only for a *downgrade*. A patch that is on and not named is
    taken off, unless a pattern of *keep* fits its name. If nothing takes its place, one of *drop* has to (losses.py).
    """

    want: str
    patches: list[dict[str, Any]]
    store: Path
    core: bool = True
    batches: list[int | str] = field(default_factory=lambda: [1, "50%", "100%"])
    policy: Policy = field(default_factory=lambda: dict(policies.DEFAULTS))
    domains: dict[str, str] = field(default_factory=dict)
    downgrade: bool = False
    keep: list[str] = field(default_factory=list)
    drop: list[str] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        return patchset.names(self.patches)


def make(identity: str, order: Order, looks: dict[str, Any], check: bool) -> dict[str, Any]:
    """The plan for the hosts of *looks*."""
    kernels, hosts = assess(order, looks)
    acting = [_member(order, name, host) for name, host in hosts.items() if acts(order.want, host["state"])]
    return {
        "format": FORMAT,
        "id": identity,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "check": check,
        "want": order.want,
        "patches": order.names,
        "patch_set": patchset.metadata(order.patches),
        "core": order.core,
        "store": str(order.store),
        "kernels": kernels,
        "hosts": hosts,
        "batches": batches.make(acting, order.batches, order.policy),
        "policy": order.policy,
        "keep": order.keep,
        "drop": order.drop,
    }


def assess(order: Order, looks: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the store holds for each kernel release of *looks*, and the state of each host against *order*."""
    kernels = dict(_kernels(order, looks))
    return kernels, {name: _host(order, name, look, kernels) for name, look in looks.items()}


def acts(want: str, state: str) -> bool:
    """Whether a host found in *state* is to be changed."""
    return state != want and state not in states.UNTOUCHABLE


def _member(order: Order, name: str, host: dict[str, Any]) -> batches.Member:
    return batches.Member(name, host["release"], order.domains.get(name, ""))


def batch_of(plan: dict[str, Any], host: str) -> int:
    """The number of the batch that *host* is in, counted from 1."""
    for number, hosts in enumerate(plan["batches"], start=1):
        if host in hosts:
            return number
    raise FleetError(f"{host} is in no batch of the plan {plan['id']}: it was not there when the plan was made")


def artifact(store: Path, release: str, name: str) -> dict[str, Any] | None:
    """The manifest of what the store holds now for a kernel release, or None. What is not as it was made is refused."""
    # Resolved once: the manifest and the .ko are of one build even if another is published meanwhile.
    current = store / manifest.check_release(release) / name / "current"
    directory = current.resolve()
    if not (directory / "manifest.json").exists():
        return None
    found = manifest.load(directory / "manifest.json")
    guard.check(current, directory / "manifest.json", directory / found["file"])
    manifest.check_file(found, directory / found["file"])
    try:
        signer.checked(store, found, directory)
    except SignatureError as error:
        raise FleetError(str(error)) from error
    return found


def hosts_by(plan: dict[str, Any], key: str) -> dict[str, list[str]]:
    """The hosts that are changed, by each of the patches that the plan has for them under *key*, 'obsolete' say."""
    found: dict[str, list[str]] = {}
    for host in (host for batch in plan["batches"] for host in batch):
        for name in plan["hosts"][host].get(key) or []:
            found.setdefault(name, []).append(host)
    return found


def changed_artifacts(plan: dict[str, Any]) -> list[str]:
    """What in the store is no longer what the plan was made with."""
    return [
        f"{release}/{name}"
        for release, kernel in plan["kernels"].items()
        for name, kept in kernel["artifacts"].items()
        if not _same(artifact(Path(plan["store"]), release, name), kept)
    ]


def _same(found: dict[str, Any] | None, kept: dict[str, Any]) -> bool:
    """Whether an artifact is the one that was planned with: made of the same, and the same bytes."""
    return found is not None and all(found[key] == kept[key] for key in ("input_sha256", "sha256"))


def create(home: Path, identity: str, check: bool) -> Path:
    """The new directory of a rollout; FleetError if there was one of that name. Check mode leaves *home* alone."""
    path = home / "rollouts" / check_id(identity)
    if check:
        return Path(tempfile.mkdtemp(prefix="kpatch-check-"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700)
    except FileExistsError as error:
        raise FleetError(f"{path}: there was a rollout of that name: choose another kpatch_rollout_id") from error
    except OSError as error:
        raise FleetError(f"{path}: can't be made: {error.strerror}; mend that or set kpatch_home") from error
    return path


def find(home: Path, identity: str | None) -> Path:
    """The directory of a rollout; the newest one's if *identity* is None."""
    if identity:
        return home / "rollouts" / check_id(identity)
    paths = sorted((home / "rollouts").glob(f"*/{FILE}"), key=lambda path: path.stat().st_mtime)
    if not paths:
        raise FleetError(f"{home / 'rollouts'}: there was no rollout yet; is kpatch_home right?")
    return paths[-1].parent


def check_id(identity: str) -> str:
    """Return *identity* if it may name a rollout, and thus its directory."""
    if _ID.fullmatch(identity):
        return identity
    raise FleetError(f"kpatch_rollout_id: {identity!r} can't name a rollout: use letters, digits, '.', '_' and '-'")


def write(directory: Path, plan: dict[str, Any]) -> None:
    """Keep the plan; from now on it does not change."""
    host_plan.write(directory, plan)
    publish(directory / FILE, json.dumps(plan, indent=2, sort_keys=True) + "\n")


def load(directory: Path) -> dict[str, Any]:
    """The plan in *directory*, with its hosts as they were found when it was last resumed."""
    plan = load_frozen(directory / FILE)
    try:
        later = json.loads((directory / BASELINE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return plan
    except (OSError, ValueError) as error:
        raise FleetError(f"{directory / BASELINE}: can't be read: {error}; resume the rollout again") from error
    return {**plan, "hosts": {name: {**host, **later.get(name, {})} for name, host in plan["hosts"].items()}}


def load_frozen(path: Path) -> dict[str, Any]:
    """The plan in the file *path*, as it was written."""
    try:
        plan = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FleetError(f"{path}: can't be read: {error.strerror}; start the playbook again") from error
    except ValueError as error:
        raise FleetError(f"{path}: is no plan: {error}; start the playbook again") from error
    if not isinstance(plan, dict) or plan.get("format") != FORMAT:
        raise FleetError(f"{path}: is no plan of format {FORMAT}; start the playbook again")
    return {**plan, "policy": policies.of(plan)}


def _kernels(order: Order, looks: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """What the store holds for each kernel release of the fleet. Taking things off needs no artifact."""
    if order.want == "absent":
        return []
    releases = sorted({look["host"]["kernel"]["release"] for look in looks.values() if not states.lost(look)})
    return [(release, _stored(order, release)) for release in releases]


def _stored(order: Order, release: str) -> dict[str, Any]:
    """The artifacts for a release, and for which build of that kernel and with which consistency each was made."""
    stored = {name: one for name in order.names if (one := artifact(order.store, release, name))}
    if manifest.CORE_NAME in states.parts(order.names, stored):
        core = artifact(order.store, release, manifest.CORE_NAME)
        stored |= {manifest.CORE_NAME: core} if core else {}
    return {
        "artifacts": {name: _kept(order.store, release, one) for name, one in stored.items()},
        "made": {
            name: {"build_id": one["kernel"]["build_id"], "consistency": one["consistency"]}
            for name, one in stored.items()
        },
    }


def _kept(store: Path, release: str, made: dict[str, Any]) -> dict[str, Any]:
    """What the plan keeps of an artifact."""
    directory = store / release / made["name"] / made["input_sha256"]
    kept = {key: made[key] for key in (*KEPT, *TOLD) if key in KEPT or key in made}
    return {**kept, "safety": safety.lines(directory), "signer": signer.fingerprint(directory)}


def _host(order: Order, name: str, look: Any, kernels: dict[str, Any]) -> dict[str, Any]:
    if verdict := states.lost(look):
        return {"state": verdict.state, "reason": verdict.reason}
    host = look["host"]
    kernel = host["kernel"]
    verdict = _absent(order, host) if order.want == "absent" else _applied(order, host, kernels[kernel["release"]])
    applies = order.want == "applied"
    gone = states.obsolete(host, order.names, order.keep) if applies else []
    artifacts = kernels[kernel["release"]]["artifacts"] if applies else {}
    return {
        "state": verdict.state,
        "reason": verdict.reason,
        "release": kernel["release"],
        "build_id": kernel["build_id"],
        "boot_id": kernel["boot_id"],
        "taint": kernel["taint"]["flags"],
        "domain": order.domains.get(name, ""),
        "counters": kernel.get("counters") or {},
        "obsolete": gone,
        "again": stacking.again(_patches(order, artifacts), host),
        "loses": states.unreplaced(host, gone, order.names, artifacts),
        "runs": runs.seen(look),
    }


def _applied(order: Order, host: dict[str, Any], kernel: dict[str, Any]) -> Verdict:
    if not order.store.is_dir():
        return Verdict("needs-build", f"there is no store at {order.store}: build, or set kpatch_home right")
    artifacts = kernel["artifacts"]
    asked = {patch["name"]: patch for patch in order.patches}
    for name in states.parts(order.names, artifacts):
        if reason := _unfit(asked.get(name, {"name": name}), host["kernel"], kernel["made"].get(name)):
            return Verdict("needs-build", reason)
    gone = states.obsolete(host, order.names, order.keep)
    verdict = states.without(host, gone, states.applied(host, order.names, artifacts))
    if verdict.state in ("applied", "damaged"):
        return verdict
    return states.foreign(host, artifacts) or _covered(_patches(order, artifacts), host, gone) or verdict


def _patches(order: Order, artifacts: dict[str, Any]) -> dict[str, Any]:
    """Those of *artifacts* that are patches, in the order in which they are to be."""
    return {name: artifacts[name] for name in order.names if name in artifacts}


def _covered(artifacts: dict[str, Any], host: dict[str, Any], gone: list[str]) -> Verdict | None:
    """Which patch that is not of the set would be covered by one of it."""
    try:
        stacking.check(artifacts, host, gone)
    except HostError as error:
        return Verdict("foreign-patch", str(error))
    return None


def _unfit(patch: dict[str, Any], running: dict[str, Any], made: dict[str, Any] | None) -> str:
    """Why what the store has of *patch* is not for this kernel or not what was asked for; empty if it is."""
    name, release = patch["name"], running["release"]
    if made is None:
        return f"the store has no {name} for {release}"
    if made["build_id"] != running["build_id"]:
        return f"the store's {name} is for another build of {release}"
    for axis, has in (made["consistency"] or {}).items():
        if patch.get(axis, has) != has:
            return f"the store's {name} was built with {axis}: {has}, but {axis}: {patch[axis]} is asked for"
    has, asked = (one.get("means", manifest.STOPPING) for one in (made["consistency"] or {}, patch))
    return "" if has == asked else f"the store's {name} was built with means: {has}, but means: {asked} is asked for"


def _absent(order: Order, host: dict[str, Any]) -> Verdict:
    return states.present(host, order.names, removes_core(order.core, order.names, host))


def removes_core(core: bool, names: list[str], host: dict[str, Any]) -> bool:
    """Whether the core module goes, too: it stays as long as a patch that stays needs it."""
    going = {manifest.module_name(name) for name in names}
    staying = [patch for patch in host.get("patches") or [] if patch["module"] not in going]
    return core and all(patch.get("backend") == manifest.LIVEPATCH for patch in staying)


def digests(plan: dict[str, Any], host: dict[str, Any]) -> dict[str, str]:
    """The sha256 of each artifact that the plan was made with for the kernel of *host*, by its name."""
    kernel = plan["kernels"].get(host["kernel"]["release"], {"artifacts": {}})
    return {name: one["sha256"] for name, one in kernel["artifacts"].items()}


def loads_core(plan: dict[str, Any], host: dict[str, Any]) -> bool:
    """Whether the core module is to be on, too, on *host*: only where a patch of the plan needs it."""
    artifacts = plan["kernels"][host["kernel"]["release"]]["artifacts"]
    return manifest.CORE_NAME in states.parts(plan["patches"], artifacts)
