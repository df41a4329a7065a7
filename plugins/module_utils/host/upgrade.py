# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Replaces a set that runs by another build of it, as a whole: all of the new one, or all of the one before.

A patch takes the place of its older build in one switch. A core module can't be replaced under its patches: they go
first, last one first, and come back on the new one.

What the set was is on disk while it is being replaced. Whoever finds that there makes it whole: whoever replaced it was
killed.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ansible_collections.kpatch.fleet.plugins.module_utils.host import decide
from ansible_collections.kpatch.fleet.plugins.module_utils.host.errors import HostError
from ansible_collections.kpatch.fleet.plugins.module_utils.host.loader import Loader
from ansible_collections.kpatch.fleet.plugins.module_utils.host.modules import same_identity
from ansible_collections.kpatch.fleet.plugins.module_utils.host.parts import Part
from ansible_collections.kpatch.fleet.plugins.module_utils.host.staging import Staging
from ansible_collections.kpatch.fleet.plugins.module_utils.host.state import read_host
from ansible_collections.kpatch.fleet.plugins.module_utils.host.transition import Transition
from ansible_collections.kpatch.fleet.plugins.module_utils.manifest import CORE_NAME, LIVEPATCH

Host = dict[str, Any]


def with_way(parts: list[Part], host: Host) -> list[Part]:
    """*parts*, and before them the patches that have to go so that a new core module can come.

    They are left alone, so that the new core module is refused, if one is not of the set, or has no staged file with
    which it could be put back.
    """
    core = next((part for part in parts if part.name == CORE_NAME), None)
    if core is None or not _is_replaced(core, host):
        return parts
    users = [patch["module"] for patch in host["patches"] if patch.get("backend") != LIVEPATCH]
    known = {part.module for part in parts if host["staged"] is None or part.module in host["staged"]}
    if not {*users, core.module} <= known:
        return parts
    going = [replace(part, wanted="unloaded", manifest=None, src=None) for part in parts if part.module in users]
    return [*going[::-1], *parts]


class Upgrade:
    """What the set *parts* was on a host when it was read as *before*, and how it is made so again."""

    def __init__(self, root: Path, loader: Loader, parts: list[Part], before: Host, timeout: float) -> None:
        self.root = root
        self.loader = loader
        self.before = before
        self.timeout = timeout
        self.set = list({part.module: part for part in parts if part.wanted != "unloaded"}.values())
        self.replaces = any(_is_replaced(part, before) for part in self.set)
        self.staging = Staging(root, before["kernel"]["release"])

    def begin(self) -> None:
        """Keep the staged files of what is to be replaced, and what it was."""
        if self.replaces:
            self.staging.keep([part.module for part in self.set], _kept_of(self.before, self.set))

    def end(self) -> None:
        """The new set is on: it is remembered, and what was kept of the one before goes."""
        self.staging.remember([part.manifest for part in self.set if part.manifest and part.needs_artifact])
        if self.replaces:
            self.staging.forget_kept([part.module for part in self.set])

    def put_back(self) -> str:
        """Make the set what it was before; what to add to the message of the failure. Empty if nothing was replaced."""
        if not self.replaces:
            return ""
        try:
            self.undo()
        except HostError as error:
            return f" And the set that ran before could not be put back whole: {error}."
        return " The set that ran before is on again."

    def undo(self) -> None:
        """Make the set what it was before; HostError if that can't be."""
        self._take_off()
        self.staging.restore_kept([part.module for part in self.set])
        self._put_on()
        self.staging.forget_kept([part.module for part in self.set])

    def _take_off(self) -> None:
        """What was not there before; and all patches if they came with another core module."""
        other_core = self._differs(CORE_NAME)
        for part in self.set[::-1]:
            if decide.find(self.before, part.module) is None or other_core:
                self._bring(replace(part, wanted="unloaded", manifest=None, src=None))

    def _put_on(self) -> None:
        """A patch of the set before takes the place of its new build as that one had taken its."""
        for part in self.set:
            then = decide.find(self.before, part.module)
            if then is None:
                continue
            self._bring(staged_part(self.staging, part.module))
            if not then.get("enabled", True):
                self._bring(Part(part.name, "disabled"))

    def _differs(self, module: str) -> bool:
        found, then = decide.find(read_host(self.root), module), decide.find(self.before, module)
        return found is not None and not (then and same_identity(found, then))

    def _bring(self, part: Part) -> None:
        Transition(self.root, self.loader, read_host(self.root), part, self.timeout).reach()


def mend(root: Path, loader: Loader, timeout: float) -> list[str]:
    """Undo an upgrade whose process was killed; the modules that it was of. The host's lock is held.

    After a reboot nothing is on that could be taken off: then only the files are made what they were.
    """
    host = read_host(root)
    staging = Staging(root, host["kernel"]["release"])
    kept = staging.kept()
    if kept is None:
        return []
    before = {**host, "core": kept["core"], "patches": kept["patches"]}
    parts = [Part(name, "loaded" if name == CORE_NAME else "enabled") for name in kept["names"]]
    whole = Upgrade(root, loader, parts, before, timeout)
    modules = [part.module for part in whole.set]
    if kept["boot_id"] != host["kernel"]["boot_id"]:
        staging.restore_kept(modules)
        staging.forget_kept(modules)
        return modules
    try:
        whole.undo()
    except HostError as error:
        raise HostError(
            error.reason,
            f"an upgrade of {', '.join(modules)} was cut off on this host, and what ran before could not be put back: "
            f"{error}",
        ) from error
    return modules


def staged_part(staging: Staging, module: str) -> Part:
    """The staged artifact of *module*, as what is wanted to run: it may be older than one that was tried after it."""
    manifest = staging.manifest(module)
    wanted = "loaded" if manifest["name"] == CORE_NAME else "enabled"
    return Part(
        manifest["name"],
        wanted,
        manifest,
        staging.directory / manifest["file"],
        staging.signature(module),
        downgrade=True,
    )


def _kept_of(host: Host, parts: list[Part]) -> dict[str, Any]:
    """What has to be known of *host* to make the set *parts* again what it was."""
    modules = [part.module for part in parts]
    return {
        "boot_id": host["kernel"]["boot_id"],
        "names": [part.name for part in parts],
        "core": host["core"],
        "patches": [patch for patch in host["patches"] if patch["module"] in modules],
    }


def _is_replaced(part: Part, host: Host) -> bool:
    found = decide.find(host, part.module, part.manifest)
    return bool(found and part.manifest and part.needs_artifact and not same_identity(found, part.manifest))
