# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks at a host, picks the artifacts for its kernel, ships those that it needs, and starts the module there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.kpatch.fleet.plugins.module_utils import manifest as manifests
from ansible_collections.kpatch.fleet.plugins.module_utils import signature
from ansible_collections.kpatch.fleet.plugins.module_utils.host import decide, preflight, upgrade
from ansible_collections.kpatch.fleet.plugins.module_utils.host import parts as host_parts
from ansible_collections.kpatch.fleet.plugins.module_utils.host import results as host_results
from ansible_collections.kpatch.fleet.plugins.module_utils.host.errors import HostError
from ansible_collections.kpatch.fleet.plugins.module_utils.host.parts import Part
from ansible_collections.kpatch.fleet.plugins.module_utils.host.staging import read_checked
from ansible_collections.kpatch.fleet.plugins.plugin_utils import guard, signer
from ansible_collections.kpatch.fleet.plugins.plugin_utils.errors import FleetError

Result = dict[str, Any]
Host = dict[str, Any]


class ShipAction(ActionBase):  # type: ignore[misc]
    """*kind* names the module, 'core', 'patch' or 'patchset', that works on the host."""

    kind: str
    TRANSFERS_FILES = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> Result:
        """One round trip to look, unless the task brings a look along; one to ship and act, if there is need."""
        result: Result = super().run(tmp, task_vars)
        self._variables = task_vars or {}
        # If the connection is lost the files stay: the order goes on without it and may need them.
        try:
            done = self._reach(self._arguments())
        except HostError as error:
            done = host_results.failure(error, None, None)
        if not done.get("unreachable"):
            self._remove_tmp_path(self._connection._shell.tmpdir)
        return {**result, **done}

    def _arguments(self) -> dict[str, Any]:
        try:
            _checked, arguments = self.validate_argument_spec(host_parts.argument_spec(self.kind))
        except AnsibleActionFail as error:
            raise HostError("bad-arguments", str(error)) from error
        return dict(arguments)

    def _reach(self, arguments: dict[str, Any]) -> Result:
        parts = host_parts.asked_for(self.kind, arguments)
        if arguments["state"] == "restored":  # only the host knows what that is
            return self._act(arguments, [])
        host = None if arguments["host"] is None else _checked_host(arguments["host"])
        if any(part.needs_artifact for part in parts):
            if not arguments["store"]:
                raise HostError("bad-arguments", "'store' is missing; name the directory of the artifacts")
            if host is None:
                look = self._module("host_info", {})
                if look.get("failed") or look.get("unreachable"):
                    return look
                host = _checked_host(look.get("host"))
        return self._act(arguments, []) if host is None else self._act_on_difference(arguments, parts, host)

    def _act_on_difference(self, arguments: dict[str, Any], parts: list[Part], host: Host) -> Result:
        """Everything that can be known before is known before the first byte is shipped."""
        part, foreseen, todo = parts[0], host, []
        try:
            # The patches come first: they tell whether the core module is needed at all.
            found: dict[str, Part] = {}
            for part in sorted(parts, key=lambda one: one.name == manifests.CORE_NAME):
                if part.name != manifests.CORE_NAME or host_parts.need_core(list(found.values())):
                    found[part.name] = _with_artifact(part, host, arguments["store"])
                    _check_planned(found[part.name], arguments.get("planned"))
            if "core" in arguments:
                arguments = {**arguments, "core": manifests.CORE_NAME in found}
            there = [found[part.name] for part in parts if part.name in found]
            parts = upgrade.with_way(there, host, arguments.get("obsolete") or [])
            for part in parts:
                todo.append(_steps(part, parts, foreseen))
                foreseen = decide.reached(foreseen, part)
        except HostError as error:
            now = decide.summary(host, part.module, None)
            return host_results.whole(self.kind, parts, [host_results.failure(error, now, now)], host, host, host)
        # An upgrade that was cut off is undone there first: after that anything may be needed.
        unfinished = bool(host.get("unfinished"))
        if not any(todo) and not unfinished:
            return self._unchanged(parts, host)
        needed = [part for part, steps in zip(parts, todo) if "stage" in steps or unfinished]
        return self._act(arguments, self._ship(parts, [] if self._task.check_mode else needed))

    def _unchanged(self, parts: list[Part], host: Host) -> Result:
        summaries = [decide.summary(host, part.module, part.manifest) for part in parts]
        results = [host_results.outcome(now, now, changed=False) for now in summaries]
        return host_results.whole(self.kind, parts, results, host, host, host)

    def _ship(self, parts: list[Part], needed: list[Part]) -> list[dict[str, Any]]:
        """Bring the .ko files of *needed* to the host; the option 'artifacts' of the module there."""
        try:
            sent = self._transfer([part.src for part in needed if part.src])
        except AnsibleConnectionFailure:
            raise
        except AnsibleError as error:
            raise HostError("transfer-failed", f"the artifacts did not reach the host: {error}") from error
        return [
            {"manifest": part.manifest, "src": sent.get(part.src), "signature": part.signature}
            for part in parts
            if part.manifest
        ]

    def _transfer(self, paths: list[Path]) -> dict[Path | None, str]:
        """Bring files to the host; their paths there by those here."""
        shell = self._connection._shell
        if paths and not shell.tmpdir:
            self._make_tmp_path()
        sent: dict[Path | None, str] = {path: str(shell.join_path(shell.tmpdir, path.name)) for path in paths}
        for path, target in sent.items():
            self._transfer_file(str(path), target)
        if sent:
            self._fixup_perms2((shell.tmpdir, *sent.values()), execute=False)
        return sent

    def _act(self, arguments: dict[str, Any], artifacts: list[dict[str, Any]]) -> Result:
        kept = {key: value for key, value in arguments.items() if key not in ("store", "host", "artifacts", "planned")}
        return self._module(self.kind, {**kept, "artifacts": artifacts})

    def _module(self, name: str, arguments: dict[str, Any]) -> Result:
        return dict(
            self._execute_module(module_name=f"kpatch.fleet.{name}", module_args=arguments, task_vars=self._variables)
        )


def _with_artifact(part: Part, host: Host, store: str) -> Part:
    """*part* with its artifact for the kernel of *host*, if its state needs one."""
    if not part.needs_artifact:
        return part
    manifest, path = find_artifact(Path(store), host["kernel"]["release"], part.name)
    read_checked(path, manifest)
    return replace(part, manifest=manifest, src=path, signature=_checked_signature(Path(store), manifest, path))


def _check_planned(part: Part, planned: dict[str, str] | None) -> None:
    """What is shipped is what the plan was made with, though the whole artifact may have been exchanged since."""
    wanted = (planned or {}).get(part.name)
    if planned and part.manifest and part.manifest["sha256"] != wanted:
        raise HostError(
            "tampered",
            f"{part.module}: the store has another artifact than the plan was made with (sha256 "
            f"{part.manifest['sha256']}, planned was {wanted or 'none'}): find out who changed it, or make a new plan",
        )


def _steps(part: Part, parts: list[Part], host: Host) -> list[str]:
    """What there is to do for *part* on *host*, as the parts before will have left it."""
    if part.manifest is None or part.src is None:
        return _steps_off(part, host)
    steps = decide.steps(host, part)
    if "stage" in steps:
        preflight.check_host(host, part.manifest, read_checked(part.src, part.manifest))
        # A patch alone may come with a look from before the core module was loaded; the host itself checks that.
        if any(one.name == manifests.CORE_NAME for one in parts):
            preflight.check_core(host, part.manifest)
    return steps


def _checked_signature(store: Path, manifest: dict[str, Any], path: Path) -> str | None:
    try:
        return signer.checked(store, manifest, path.parent)
    except signature.SignatureError as error:
        raise HostError("signature", str(error)) from error


def _steps_off(part: Part, host: Host) -> list[str]:
    """What there is to do for a state that needs no artifact; whether it can be done, the host has the last word."""
    try:
        return decide.steps(host, part)
    except HostError:
        return ["ask"]


def find_artifact(store: Path, release: str, name: str) -> tuple[dict[str, Any], Path]:
    """The manifest and the .ko of *name* for the kernel *release*; HostError if there is none or it is another's."""
    # Resolved once: the manifest and the .ko are of one build even if another is published meanwhile.
    current = store / release / name / "current"
    directory = current.resolve()
    if not (directory / "manifest.json").is_file():
        raise HostError(
            "needs-build",
            f"{store}: there is no {name} for the kernel {release}; build it (playbook kpatch.fleet.build)",
        )
    try:
        manifest = manifests.load(directory / "manifest.json")
    except manifests.ManifestError as error:
        raise HostError("bad-manifest", str(error)) from error
    if manifest["name"] != name:
        raise HostError("bad-manifest", f"{name}: the manifest is that of {manifest['name']!r}; build it again")
    path = directory / manifest["file"]
    try:
        guard.check(current, directory / "manifest.json", path)
    except FleetError as error:
        raise HostError("tampered", str(error)) from error
    return manifest, path


def _checked_host(host: Any) -> dict[str, Any]:
    """*host* if it can be what host_info returned."""
    keys = ("kernel", "core", "patches", "livepatches", "staged")
    if not isinstance(host, dict) or any(key not in host for key in keys) or not isinstance(host["kernel"], dict):
        raise HostError("bad-arguments", "'host' is not what kpatch.fleet.host_info returns; pass its 'host'")
    try:
        manifests.check_release(host["kernel"].get("release"))
    except manifests.ManifestError as error:
        raise HostError("bad-arguments", f"'host': {error}") from error
    return host
