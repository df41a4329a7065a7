# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Replaces a set that runs by another one, as a whole: all of the new one, or all of the one before.

A patch takes the place of its older build in one switch. A patch that is of the set no more goes last, when whatever
takes its place is on. A core module can't be replaced under its patches: they go first, last one first, and come back
on the new one.

What the set was is on disk while it is being replaced. Whoever finds that there makes it whole: whoever replaced it was
killed.
"""

from __future__ import annotations

from collections.abc import Sequence
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


def with_way(parts: list[Part], host: Host, obsolete: Sequence[str] = ()) -> list[Part]:
    """*parts*, after them the patches named *obsolete* that are ours, and before them what has to make room.

    That is every patch that uses a core module which is replaced. They are left alone, so that the new core module is
    refused, if one is neither of the set nor obsolete, or has no staged file with which it could be put back.
    """
    gone = [Part(name, "absent") for name in decide.ours(host)[::-1] if name in obsolete]
    core = next((part for part in parts if part.name == CORE_NAME), None)
    if core is None or not _is_replaced(core, host):
        return [*parts, *gone]
    users = [patch["module"] for patch in host["patches"] if patch.get("backend") != LIVEPATCH]
    known = {part.module for part in parts if host["staged"] is None or part.module in host["staged"]}
    if not {*users, core.module} <= {*known, *(part.module for part in gone)}:
        return [*parts, *gone]
    first = [part for part in gone if part.module in users]
    going = [replace(part, wanted="unloaded", manifest=None, src=None) for part in parts if part.module in users]
    return [*first, *going[::-1], *parts, *(part for part in gone if part not in first)]


class Upgrade:
    """What the set *parts* was on a host when it was read as *before*, and how it is made so again.

    With it go the patches that are obsolete: *set* has them, too, all in the order in which they were enabled before.
    """

    def __init__(self, root: Path, loader: Loader, parts: list[Part], before: Host, timeout: float) -> None:
        self.root = root
        self.loader = loader
        self.before = before
        self.timeout = timeout
        found = {part.module: part for part in parts if part.wanted != "unloaded"}
        self.set = sorted(found.values(), key=lambda part: _place(part, before))
        self.replaces = _drops(self.set) or any(_is_replaced(part, before) for part in self.set)
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
        """Make the set what it was before; HostError if that can't be.

        What came new goes last, so that no fix is off meanwhile. Only a core module that was replaced can't come back
        under the patches: then they all go first.
        """
        if self._other_core():
            self._take_off(self.set)
        self.staging.restore_kept([part.module for part in self.set])
        self._put_on()
        self._take_off([part for part in self.set if decide.find(self.before, part.module) is None])
        self.staging.forget_kept([part.module for part in self.set])

    def _take_off(self, parts: list[Part]) -> None:
        for part in parts[::-1]:
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

    def _other_core(self) -> bool:
        """Whether another core module is loaded than the one of before."""
        found, then = read_host(self.root)["core"], self.before["core"]
        ours = any(part.name == CORE_NAME for part in self.set)
        return bool(ours and found and then and not same_identity(found, then))

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
    # The names were kept in their order: what is staged now has no say in it.
    before = {**host, "core": kept["core"], "patches": kept["patches"], "manifests": []}
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


def _place(part: Part, before: Host) -> int:
    """Where *part* came when the set of *before* was put on; what is new comes last, and the core module first."""
    order = [CORE_NAME, *decide.ours(before)]
    return order.index(part.name) if part.name in order else len(order)


def _drops(parts: list[Part]) -> bool:
    """Whether patches go with the coming of others; where all go, nothing is kept to be put back."""
    return any(part.needs_artifact for part in parts) and any(part.wanted == "absent" for part in parts)


def _is_replaced(part: Part, host: Host) -> bool:
    found = decide.find(host, part.module, part.manifest)
    return bool(found and part.manifest and part.needs_artifact and not same_identity(found, part.manifest))
