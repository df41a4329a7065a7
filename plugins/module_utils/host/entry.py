# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules core, patch and patchset do on the host: one part after the other, up to the first failure."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

from ansible_collections.kpatch.fleet.plugins.module_utils.host import decide, order, upgrade
from ansible_collections.kpatch.fleet.plugins.module_utils.host import parts as host_parts
from ansible_collections.kpatch.fleet.plugins.module_utils.host import results as host_results
from ansible_collections.kpatch.fleet.plugins.module_utils.host.errors import HostError
from ansible_collections.kpatch.fleet.plugins.module_utils.host.loader import KernelLoader, Loader
from ansible_collections.kpatch.fleet.plugins.module_utils.host.lock import host_lock
from ansible_collections.kpatch.fleet.plugins.module_utils.host.parts import Part
from ansible_collections.kpatch.fleet.plugins.module_utils.host.state import read_host
from ansible_collections.kpatch.fleet.plugins.module_utils.host.transition import Transition
from ansible_collections.kpatch.fleet.plugins.module_utils.manifest import module_name

Result = dict[str, Any]


def carry_out(kind: str, params: dict[str, Any], check_mode: bool) -> Result:
    """Do what `run` does, even if the connection ends meanwhile; in check mode nothing is done that could be cut."""
    if check_mode:
        return run(kind, params, check_mode)
    return order.carry_out(params["order"] or "", lambda: run(kind, params, check_mode))


def run(kind: str, params: dict[str, Any], check_mode: bool, root: Path = Path("/")) -> Result:
    """Do what the options of the module *kind* say; its result, of which a failure has 'failed' and 'reason'.

    The host is locked from the first look to the last: between two parts nobody else changes it.
    """
    try:
        parts = host_parts.with_artifacts(
            host_parts.asked_for(kind, params), params["artifacts"], params.get("downgrade", False)
        )
        loader = KernelLoader()
        if params["state"] == "restored":
            return _restore(params, loader, check_mode, root)
        if check_mode:
            return _run(kind, params, parts, loader, check_mode, root)
        with host_lock(root):
            mended = upgrade.mend(root, loader, params["timeout"])
            result = _run(kind, params, parts, loader, check_mode, root)
    except HostError as error:
        return host_results.failure(error, None, None)
    if mended:
        said = f"an upgrade of {', '.join(mended)} was cut off on this host: what ran before was put back first"
        result["warnings"] = [said, *result.get("warnings", [])]
        result["changed"] = True
    return result


def _run(kind: str, params: dict[str, Any], parts: list[Part], loader: Loader, check_mode: bool, root: Path) -> Result:
    before = read_host(root)
    obsolete = params.get("obsolete") or []
    parts = upgrade.with_way(parts, before, obsolete)
    whole = upgrade.Upgrade(root, loader, parts, before, params["timeout"], params.get("order"))
    warnings = _strangers(before, obsolete)
    try:
        if not check_mode:
            whole.begin()
    except HostError as error:
        now = decide.summary(before, parts[0].module, parts[0].manifest)
        refused = host_results.whole(kind, parts, [host_results.failure(error, now, now)], before, before, before)
        return {**refused, "warnings": warnings}
    results: list[Result] = []
    host = before
    for part in parts:
        transition = Transition(root, loader, host, part, params["timeout"])
        results.append(_bring(transition, check_mode))
        warnings += transition.warnings
        host = transition.host
        if results[-1].get("failed"):
            break
    if not check_mode:
        host = _end(whole, results, host)
    if not check_mode and any(result["changed"] for result in results):
        whole.changed()
    done = host_results.whole(kind, parts, results, before, host, before if check_mode else host)
    return {**done, "warnings": warnings}


def _restore(params: dict[str, Any], loader: Loader, check_mode: bool, root: Path) -> Result:
    """Take a change back: the host has what it had before, as its kernel shows."""
    with nullcontext() if check_mode else host_lock(root):
        before = read_host(root)
        kept = upgrade.kept_of(root, before["kernel"]["release"], params["undoes"])
        after = upgrade.then(before, kept)
        failure = None
        if not check_mode:
            try:
                upgrade.take_back(root, loader, params["undoes"], params["timeout"])
            except HostError as error:
                failure = error
            after = read_host(root)
    return host_results.restored(kept["modules"], before, after, before if check_mode else after, failure)


def _strangers(host: dict[str, Any], obsolete: list[str]) -> list[str]:
    """What is told of patches that have the name of an obsolete one, and are not what the host was given as that."""
    others = [name for name in obsolete if name not in decide.ours(host)]
    return [
        f"{module} is loaded, but is not the build that this host has a manifest of: it is left alone"
        for module in map(module_name, others)
        if decide.builds(host, module)
    ]


def _end(whole: upgrade.Upgrade, results: list[Result], host: dict[str, Any]) -> dict[str, Any]:
    """The host after the set came on whole, or after the one before was put back, which the last result then tells."""
    if not results[-1].get("failed"):
        return _kept(whole, results, host)
    told = whole.put_back()
    if not told:
        return host
    results[-1]["msg"] += told
    return read_host(whole.root)


def _kept(whole: upgrade.Upgrade, results: list[Result], host: dict[str, Any]) -> dict[str, Any]:
    """*host*, once it is remembered what it has; that this failed is told, and changes nothing of what runs."""
    try:
        whole.end()
    except HostError as error:
        results[-1].update(failed=True, reason=error.reason)
        results[-1]["msg"] += f". All of it is on, but {error}"
    # What the host keeps is another thing now than when the last part came on.
    return read_host(whole.root) if whole.acts else host


def finish(module: Any, result: Result) -> None:
    """End the AnsibleModule *module* with *result*."""
    for warning in result.pop("warnings", []):
        module.warn(warning)
    if result.pop("failed", False):
        module.fail_json(**result)
    module.exit_json(**result)


def _bring(transition: Transition, check_mode: bool) -> Result:
    """The result of one part; in check mode nothing is done, and the next part sees it as if it were."""
    try:
        changed, after = transition.foresee() if check_mode else transition.reach()
    except HostError as error:
        return host_results.failure(error, transition.before, transition.before if check_mode else _seen(transition))
    return host_results.outcome(transition.before, after, changed)


def _seen(transition: Transition) -> dict[str, Any] | None:
    """What the part is now, or None if the host can't be read any more."""
    try:
        return transition.look()
    except HostError:
        return None
