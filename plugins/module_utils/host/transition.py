# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings one module of ours on one host to a wanted state: look, decide, act, look again."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from typing import Any, Callable

from ansible_collections.kpatch.fleet.plugins.module_utils.host import decide, preflight
from ansible_collections.kpatch.fleet.plugins.module_utils.host.errors import HostError, from_oserror
from ansible_collections.kpatch.fleet.plugins.module_utils.host.kernel_log import KernelLog
from ansible_collections.kpatch.fleet.plugins.module_utils.host.loader import Loader, explain_load
from ansible_collections.kpatch.fleet.plugins.module_utils.host.modules import holders, read_module, same_identity
from ansible_collections.kpatch.fleet.plugins.module_utils.host.parts import Part
from ansible_collections.kpatch.fleet.plugins.module_utils.host.patches import (
    CORE_DIRECTORY,
    busy_reason,
    patch_directory,
    read_patch,
    read_refusal,
)
from ansible_collections.kpatch.fleet.plugins.module_utils.host.staging import Staging, read_checked
from ansible_collections.kpatch.fleet.plugins.module_utils.host.state import read_host
from ansible_collections.kpatch.fleet.plugins.module_utils.host.stuck import stuck_tasks
from ansible_collections.kpatch.fleet.plugins.module_utils.manifest import CORE_NAME, KPATCH, LIVEPATCH

_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 5.0
# docs/sysfs-abi.md
_LONGEST_DEADLINE_MS = 86_400_000
_FORCED = (
    "is a forced patch: a task may still be in a function that it has replaced or brought, so that its module stays "
    "loaded until the next boot. It can be off, but not unloaded; reboot the host to be rid of it"
)


class Transition:
    """One module on its way; *timeout* is how many seconds it may wait for tasks that are in the way.

    *host* is what read_host() has just returned, or in check mode what the parts before would have made of it.
    """

    def __init__(self, root: Path, loader: Loader, host: dict[str, Any], part: Part, timeout: float = 30.0) -> None:
        self.root = root
        self.loader = loader
        self.host = host
        self.module = part.module
        self.part = part
        self.timeout = timeout
        self.image: bytes | None = None
        self.warnings: list[str] = []
        self.before = self._summary()
        self.staging = Staging(root, host["kernel"]["release"])

    def foresee(self) -> tuple[bool, dict[str, Any]]:
        """Whether something would change, and the summary then; changes nothing but what *host* tells."""
        steps = self._steps()
        if "stage" in steps:
            self._preflight()
            self._foresee_core()
        self.host = decide.reached(self.host, self.part)
        return decide.changes(steps), self._summary()

    def reach(self) -> tuple[bool, dict[str, Any]]:
        """Reach the wanted state; whether something changed, and the summary now. On HostError it is as before.

        The caller holds the host's lock, and has read the host since it does.
        """
        steps = self._steps()
        if not steps:
            return False, self.before
        if "stage" in steps:
            self._preflight()
            preflight.check_core(self.host, self._wanted_manifest())
        self._act(steps)
        if self.part.wanted != "unloaded":  # it comes back at once, and at a boot in between, too
            self.staging.keep_enabled(self.module, self.part.needs_artifact)
        return decide.changes(steps), self.look()

    def look(self) -> dict[str, Any]:
        """Read the host again; the module's summary now."""
        self.host = read_host(self.root)
        return self._summary()

    def _summary(self) -> dict[str, Any]:
        return decide.summary(self.host, self.module, self.part.manifest)

    def _loaded_now(self) -> dict[str, Any] | None:
        self.look()
        return decide.find(self.host, self.module, self.part.manifest)

    def _others_now(self) -> list[dict[str, Any]]:
        """The builds of the module that are loaded beside the wanted one."""
        self.look()
        return [one for one in decide.builds(self.host, self.module) if not same_identity(one, self._wanted_manifest())]

    def _steps(self) -> list[str]:
        return decide.steps(self.host, self.part)

    def _preflight(self) -> None:
        manifest = self._wanted_manifest()
        if self.part.src:
            self.image = read_checked(self.part.src, manifest)
        preflight.check_signer(self.root, manifest, self.part.signature)
        preflight.check_host(self.host, manifest, self.image)
        if not self.part.downgrade:
            self.staging.check_newer(manifest)
        self.staging.check_room(manifest["size"])

    def _foresee_core(self) -> None:
        """In check mode an earlier task would have loaded the core module, but has not."""
        try:
            preflight.check_core(self.host, self._wanted_manifest())
        except HostError as error:
            self.warnings.append(str(error))

    def _set_deadline(self) -> None:
        """Have the core module turn a switch back when its time is up; half way to that it wakes sleepers."""
        path = self.root / CORE_DIRECTORY / "deadline_ms"
        if self.timeout and path.exists():
            try:
                _write(path, str(min(max(int(self.timeout * 1000), 1), _LONGEST_DEADLINE_MS)).encode())
            except OSError as error:
                raise from_oserror("write to it", error, str(path)) from error

    def _act(self, steps: list[str]) -> None:
        self._set_deadline()
        old = decide.find(self.host, self.module)
        try:
            for step in steps:
                getattr(self, "_do_" + step)()
        except HostError as error:
            # Off is what was asked for: a patch that can't be unloaded is not switched on again.
            if not self.part.needs_artifact:
                raise
            raise HostError(error.reason, f"{error}{self._go_back(old)}") from error

    def _do_stage(self) -> None:
        if self.image is None:
            raise HostError("transfer-failed", f"{self.module}: no file came with the order to load it; run again")
        self.staging.write(self.image, self._wanted_manifest(), self.part.signature)

    def _do_publish(self) -> None:
        self.staging.publish(self.module)

    def _do_keep(self) -> None:
        self.staging.keep_enabled(self.module, True)

    def _do_unstage(self) -> None:
        self.staging.remove(self.module)

    def _do_enable(self) -> None:
        found = self._loaded_now()
        if found:
            self._switch(found, True)

    def _do_disable(self) -> None:
        for one in decide.builds(self.host, self.module):
            if one.get("enabled"):
                self._switch(one, False)

    def _do_load(self) -> None:
        manifest = self._wanted_manifest()
        parameters = self._replacing(manifest)

        def load() -> None:
            with self.staging.new_artifact(manifest) as handle:
                self._load(handle, parameters)

        self._insist(load)
        self._check_loaded(manifest)
        self._do_settle()

    def _replacing(self, manifest: dict[str, Any]) -> str:
        """What tells the core module which older build goes in the same switch.

        Livepatch knows no such thing, but that everything else goes. The new build is put on top of the old one there,
        which is taken off after it: its fixes are on throughout, too.
        """
        enabled = [one for one in decide.builds(self.host, self.module) if one.get("enabled")]
        by_core = manifest["backend"] == KPATCH and enabled and enabled[0]["backend"] == KPATCH
        return f"replaces={decide.loaded_as(enabled[0])}" if by_core else ""

    def _do_clear(self) -> None:
        """Take away the older builds, which the new one has replaced."""
        for one in self._others_now():
            self._take_away(one)

    def _do_unload(self) -> None:
        self.look()
        for one in decide.builds(self.host, self.module):
            self._take_away(one)

    def _take_away(self, build: dict[str, Any]) -> None:
        if build["module"] != CORE_NAME and build["enabled"]:
            self._switch(build, False)
        self._insist(lambda: self._unload(build))

    def _do_settle(self) -> None:
        """Wait until a switch that is under way has ended."""
        deadline = time.monotonic() + self.timeout
        while self.look()["transition"]:
            if time.monotonic() >= deadline:
                message = f"{self.module} is still in transition after {self.timeout:g} s: {self._in_the_way()}"
                raise HostError("stalled", message)
            time.sleep(_FIRST_PAUSE)

    def _in_the_way(self) -> str:
        builds = decide.builds(self.host, self.module)
        found = next((one for one in builds if one.get("transition")), None)
        if found and found.get("backend") == LIVEPATCH:
            said = stuck_tasks(self.root, bool(found["enabled"]))
        else:
            said = "; ".join(found["blocking"] if found else []) or read_refusal(self.root)
        return said or "the kernel doesn't say who is in the way"

    def _load(self, handle: int, parameters: str = "") -> None:
        earlier = read_refusal(self.root)
        with KernelLog(self.root) as log:
            try:
                self.loader.load(handle, parameters)
            except OSError as error:
                refusal = read_refusal(self.root)
                # A module that the kernel refused before its init function ran left an older refusal standing.
                fresh = refusal if refusal != earlier or error.errno == errno.EBUSY else ""
                raise explain_load(self.module, error, fresh, log.lines()) from error

    def _unload(self, build: dict[str, Any]) -> None:
        name = decide.loaded_as(build)
        try:
            self.loader.unload(name)
        except OSError as error:
            found = read_module(self.root, name)
            if found is None:
                return
            if build.get("forced"):
                raise HostError("unload-failed", f"{name} {_FORCED}") from error
            users = ", ".join(holders(self.root, name)) or "the kernel"
            message = f"{name} can't be unloaded: {error.strerror}; {found['refcnt']} references, used by {users}"
            reason = "busy" if error.errno in (errno.EBUSY, errno.EAGAIN) else "unload-failed"
            raise HostError(reason, message) from error

    def _switch(self, build: dict[str, Any], on: bool) -> None:
        name = decide.loaded_as(build)

        def write() -> None:
            path = patch_directory(self.root, name, build["backend"]) / "enabled"
            try:
                _write(path, b"1" if on else b"0")
            except OSError as error:
                raise self._explain_switch(build, on, path, error) from error

        self._insist(write)
        self._do_settle()
        now = read_patch(self.root, name)
        if bool(now and now["enabled"]) != on:
            verb = "enable" if on else "disable"
            raise HostError("switch-failed", f"{name}: the kernel took the order to {verb} it but did not")

    def _explain_switch(self, build: dict[str, Any], on: bool, path: Path, error: OSError) -> HostError:
        verb = "enabled" if on else "disabled"
        refusal = read_refusal(self.root) if build["backend"] == KPATCH else ""
        said = refusal or f"{decide.loaded_as(build)} can't be {verb}: {error.strerror}"
        if error.errno == errno.EBUSY:
            return HostError(busy_reason(refusal), said)
        if error.errno in (errno.EACCES, errno.EROFS):
            return from_oserror("write to it", error, str(path))
        return HostError("switch-failed", said)

    def _insist(self, attempt: Callable[[], None]) -> None:
        """Try again while tasks are in the way, in growing pauses, until the time is up."""
        deadline = time.monotonic() + self.timeout
        pause = _FIRST_PAUSE
        count = 1
        while True:
            try:
                return attempt()
            except HostError as error:
                if error.reason != "busy":
                    raise
                if time.monotonic() + pause > deadline:
                    tried = f" (tried {count} times in {self.timeout:g} s; run again, or raise 'timeout')"
                    raise HostError("busy", f"{error}{tried}") from error
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
            count += 1

    def _check_loaded(self, manifest: dict[str, Any]) -> None:
        """What the kernel shows now is the artifact, and it does what it is for."""
        found = self._loaded_now()
        if found is None or not same_identity(found, manifest):
            shown = found and (found["srcversion"], found["build_id"])
            raise HostError(
                "wrong-identity",
                f"{self.module} was loaded, but the kernel shows {shown} as its srcversion and build id instead of "
                f"{(manifest['srcversion'], manifest['build_id'])}; build it again",
            )
        if manifest["kind"] == "core" and found["abi"] != manifest["abi"]:
            raise HostError("core-mismatch", f"the core module shows ABI {found['abi']}, not {manifest['abi']}")
        if manifest["kind"] == "patch" and not (found["registered"] and found["enabled"]):
            raise HostError("load-failed", f"{self.module} was loaded, but is not enabled; build it again")

    def _go_back(self, old: dict[str, Any] | None) -> str:
        """Make it as it was: what ran comes back, what was loaded goes. What to add to the error's message."""
        try:
            kept = self._keep_old(old)
            replaced = self._drop_new(old)
            returned = kept or self._bring_back(old)
            self.staging.discard(self.module)
        except HostError as error:
            return f". And it could not be made as it was: {error}"
        return ". The one that ran before is back" if replaced or returned else ""

    def _keep_old(self, old: dict[str, Any] | None) -> bool:
        """Switch the old build on before the new one goes, if both are loaded: its fixes are on throughout."""
        now = old and self._build_now(old)
        if not (now and old and old.get("enabled") and not now["enabled"]):
            return False
        if not now["registered"]:
            # Livepatch lets go of a patch that it has disabled.
            name = decide.loaded_as(now)
            raise HostError("switch-failed", f"{name} can't be switched on now; the newer build stays on")
        self._switch(now, True)
        return True

    def _drop_new(self, old: dict[str, Any] | None) -> bool:
        self.look()
        new = [one for one in decide.builds(self.host, self.module) if not (old and same_identity(one, old))]
        for one in new:
            self._take_away(one)
        return bool(new) and old is not None

    def _bring_back(self, old: dict[str, Any] | None) -> bool:
        if old is None:
            return False
        returned = self._build_now(old) is None
        if returned:
            self._insist(lambda: self._load_old(old))
        now = self._build_now(old)
        if now and now.get("registered") and now["enabled"] != old["enabled"]:
            self._switch(now, old["enabled"])
            returned = True
        return returned

    def _build_now(self, build: dict[str, Any]) -> dict[str, Any] | None:
        """*build* as it is now, or None if it is not loaded any more."""
        self.look()
        return next((one for one in decide.builds(self.host, self.module) if same_identity(one, build)), None)

    def _load_old(self, old: dict[str, Any]) -> None:
        with self.staging.published_artifact(self.module) as (handle, manifest):
            if not same_identity(old, manifest):
                raise HostError("wrong-identity", f"{self.module}: the staged file is not the one that ran before")
            self._load(handle)

    def _wanted_manifest(self) -> dict[str, Any]:
        return decide.wanted_manifest(self.part)


def _write(path: Path, value: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(handle, value)
    finally:
        os.close(handle)
