# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks at a host, picks the artifact for its kernel, ships it if the host needs it, and starts the module there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.kpatch.fleet.plugins.module_utils import manifest as manifests
from ansible_collections.kpatch.fleet.plugins.module_utils.host import decide, entry, preflight
from ansible_collections.kpatch.fleet.plugins.module_utils.host.errors import HostError
from ansible_collections.kpatch.fleet.plugins.module_utils.host.staging import read_checked

Result = dict[str, Any]


class ShipAction(ActionBase):  # type: ignore[misc]
    """*kind* names the module, 'core' or 'patch', that works on the host."""

    kind: str
    TRANSFERS_FILES = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> Result:
        """One round trip to look, unless the task brings a look along; one to ship and act, if there is need."""
        result: Result = super().run(tmp, task_vars)
        self._variables = task_vars or {}
        try:
            return {**result, **self._reach(self._arguments())}
        except HostError as error:
            return {**result, **entry.failure(error, None, None)}
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)

    def _arguments(self) -> dict[str, Any]:
        try:
            _checked, arguments = self.validate_argument_spec(entry.argument_spec(self.kind))
        except AnsibleActionFail as error:
            raise HostError("bad-arguments", str(error)) from error
        self._name = entry.artifact_name(arguments)
        self._module = manifests.module_name(self._name)
        return dict(arguments)

    def _reach(self, arguments: dict[str, Any]) -> Result:
        host = None if arguments["host"] is None else _checked_host(arguments["host"])
        if arguments["state"] in decide.ARTIFACT_STATES:
            return self._reach_with_artifact(arguments, host)
        if host and self._is_as_wanted(host, arguments["state"], None):
            return self._unchanged(host, None)
        return self._on_host(arguments)

    def _reach_with_artifact(self, arguments: dict[str, Any], host: dict[str, Any] | None) -> Result:
        if not arguments["store"]:
            raise HostError("bad-arguments", f"{self._module}: 'store' is missing; name the directory of the artifacts")
        if host is None:
            look = self._execute_module(module_name="kpatch.fleet.host_info", module_args={}, task_vars=self._variables)
            if look.get("failed") or look.get("unreachable"):
                return dict(look)
            host = _checked_host(look.get("host"))
        try:
            manifest, path = find_artifact(Path(arguments["store"]), host["kernel"]["release"], self._name)
            image = read_checked(path, manifest)
            todo = decide.steps(host, self._module, arguments["state"], manifest)
            if not todo:
                return self._unchanged(host, manifest)
            if "load" in todo:
                preflight.check_host(host, manifest, image)
        except HostError as error:
            now = decide.summary(host, self._module, None)
            return entry.failure(error, now, now)
        src = self._ship(path) if "load" in todo and not self._task.check_mode else None
        return self._on_host({**arguments, "manifest": manifest, "src": src})

    def _is_as_wanted(self, host: dict[str, Any], state: str, manifest: dict[str, Any] | None) -> bool:
        try:
            return not decide.steps(host, self._module, state, manifest)
        except HostError:  # the host itself has the last word
            return False

    def _unchanged(self, host: dict[str, Any], manifest: dict[str, Any] | None) -> Result:
        now = decide.summary(host, self._module, manifest)
        return entry.outcome(now, now, changed=False)

    def _ship(self, path: Path) -> str:
        shell = self._connection._shell
        try:
            if not shell.tmpdir:
                self._make_tmp_path()
            target = str(shell.join_path(shell.tmpdir, path.name))
            self._transfer_file(str(path), target)
            self._fixup_perms2((shell.tmpdir, target), execute=False)
        except AnsibleConnectionFailure:
            raise
        except AnsibleError as error:
            raise HostError("transfer-failed", f"{path.name} did not reach the host: {error}") from error
        return target

    def _on_host(self, arguments: dict[str, Any]) -> Result:
        sent = {key: value for key, value in arguments.items() if key not in ("store", "host") and value is not None}
        return dict(
            self._execute_module(module_name=f"kpatch.fleet.{self.kind}", module_args=sent, task_vars=self._variables)
        )


def find_artifact(store: Path, release: str, name: str) -> tuple[dict[str, Any], Path]:
    """The manifest and the .ko of *name* for the kernel *release*; HostError if there is none or it is another's."""
    # Resolved once: the manifest and the .ko are of one build even if another is published meanwhile.
    directory = (store / release / name / "current").resolve()
    if not (directory / "manifest.json").is_file():
        raise HostError(
            "needs-build",
            f"{store}: there is no {name} for the kernel {release}; build it (playbook kpatch.fleet.build)",
        )
    try:
        manifest = entry.checked_manifest(manifests.load(directory / "manifest.json"), name)
    except manifests.ManifestError as error:
        raise HostError("bad-manifest", str(error)) from error
    return manifest, directory / manifest["file"]


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
