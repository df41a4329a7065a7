# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Replaces a set that runs by another one, as a whole: all of the new one, or all of the one before.

A patch takes the place of its older build in one switch. A patch that is of the set no more goes last, when whatever
takes its place is on. A core module can't be replaced under its patches: they go first, last one first, and come back
on the new one.

What the set was is on disk while it is being replaced. Whoever finds that there makes it whole: whoever replaced it was
killed. After that it stays until the next change, so that this one can be taken back, exactly, hours later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ansible_collections.kpatch.fleet.plugins.module_utils.host import decide, stacking
from ansible_collections.kpatch.fleet.plugins.module_utils.host.errors import HostError
from ansible_collections.kpatch.fleet.plugins.module_utils.host.kept import FORMER, UPGRADE, Kept
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
    refused, if one is neither of the set nor obsolete, or has no staged file with which it could be put back. Otherwise
    it is each patch that would be covered by one which belongs below it; HostError if it is not of the set.
    """
    gone = [Part(name, "absent") for name in decide.ours(host)[::-1] if name in obsolete]
    core = next((part for part in parts if part.name == CORE_NAME), None)
    if core is None or not _is_replaced(core, host):
        return [*_in_order(parts, host, obsolete), *gone]
    users = [patch["module"] for patch in host["patches"] if patch.get("backend") != LIVEPATCH]
    known = {part.module for part in parts if host["staged"] is None or part.module in host["staged"]}
    if not {*users, core.module} <= {*known, *(part.module for part in gone)}:
        return [*parts, *gone]
    first = [part for part in gone if part.module in users]
    going = [_going(part) for part in parts if part.module in users]
    return [*first, *going[::-1], *parts, *(part for part in gone if part not in first)]


def _in_order(parts: list[Part], host: Host, obsolete: Sequence[str]) -> list[Part]:
    """*parts*, and before each that has to come on again that it goes."""
    artifacts = {part.name: part.manifest for part in parts if part.manifest and part.name != CORE_NAME}
    stacking.check(artifacts, host, obsolete)
    again = stacking.again(artifacts, host)
    return [one for part in parts for one in ([_going(part), part] if part.name in again else [part])]


def _going(part: Part) -> Part:
    """*part* on its way off, to come back at once."""
    return replace(part, wanted="unloaded", manifest=None, src=None)


class Upgrade:
    """What the set *parts* was on a host when it was read as *before*, and how it is made so again.

    With it go the patches that are obsolete: *set* has them, too, all in the order in which they were enabled before.
    *order* names the change, for whoever takes it back.
    """

    def __init__(
        self, root: Path, loader: Loader, parts: list[Part], before: Host, timeout: float, order: str | None = None
    ) -> None:
        self.root = root
        self.loader = loader
        self.before = before
        self.timeout = timeout
        self.order = order
        found = {part.module: part for part in parts if part.wanted != "unloaded"}
        self.set = sorted(found.values(), key=lambda part: _place(part, before))
        self.modules = [part.module for part in self.set]
        # A set that goes as a whole is not kept, to be put back.
        self.comes = any(part.needs_artifact for part in self.set)
        self.replaces = self.comes and any(
            part.wanted in ("absent", "unloaded") or _is_replaced(part, before) for part in parts
        )
        self.order_on = [part.module for part in parts if part.needs_artifact]
        self.acts = _acts(parts, before)
        self.staging = Staging(root, before["kernel"]["release"])
        self.upgrade, self.former = Kept(self.staging, UPGRADE), Kept(self.staging, FORMER)

    def begin(self) -> None:
        """Keep what is there, if it is going to be changed.

        Only a set that is replaced is made whole again if the change is cut off. Otherwise a part of it is better than
        none, and whoever comes back goes on from there.
        """
        if self.comes and self.acts:
            kept = self.upgrade if self.replaces else self.former
            kept.save(self.modules, _told(self.before, self.set, self.order))

    def end(self) -> None:
        """The new set is on: it is remembered, and the one before is kept for whoever takes this back."""
        self.staging.remember([part.manifest for part in self.set if part.manifest and part.needs_artifact])
        if self.acts:
            self.staging.keep_order(self.order_on)
        if self.replaces and self.acts:
            self.upgrade.become(FORMER)
            self._discard()

    def changed(self) -> None:
        """What is on was chosen anew: boots before say nothing of it, and a set that went as a whole is not kept."""
        self.staging.forget_boots()
        if not self.comes:
            self.former.forget()

    def put_back(self) -> str:
        """Make the set what it was before; what to add to the message of the failure. Empty if nothing was replaced."""
        if not (self.replaces and self.acts):
            return ""
        try:
            self.undo()
        except HostError as error:
            return f" And the set that ran before could not be put back whole: {error}."
        return " The set that ran before is on again."

    def undo(self) -> None:
        """Make the set what it was before; HostError if that can't be.

        What came new goes last, so that no fix is off meanwhile. Only a core module that was replaced can't come back
        under the patches: then they all go first. And of two patches that replace the same function the later one is
        in charge: it has to come after the other again.
        """
        self._take_off(self.set if self._other_core() else self._later_ones())
        self.restore()
        self._put_on()
        self._take_off([part for part in self.set if decide.find(self.before, part.module) is None])
        self.forget()

    def restore(self) -> None:
        """Make the files what they were."""
        self.upgrade.restore(self.modules)

    def forget(self) -> None:
        """All is as it was: nothing has to be known of it any more."""
        self.upgrade.forget()
        self._discard()

    def _discard(self) -> None:
        for module in self.modules:
            self.staging.discard(module)

    def _take_off(self, parts: list[Part]) -> None:
        for part in parts[::-1]:
            self._bring(_going(part))

    def _put_on(self) -> None:
        """A patch of the set before takes the place of its new build as that one had taken its."""
        for part in self.set:
            then = decide.find(self.before, part.module)
            if then is None:
                continue
            self._bring(staged_part(self.staging, part.module))
            if not then.get("enabled", True):
                self._bring(Part(part.name, "disabled"))

    def _later_ones(self) -> list[Part]:
        """The patches that are as before and came after one that is not, of which they replace a function."""
        host = read_host(self.root)
        missing: set[stacking.Function] = set()
        found = []
        for part in self.set:
            then = decide.find(self.before, part.module)
            functions = stacking.shown(then) if then else set()
            if not _same(host, self.before, part.module):
                missing |= functions
            elif missing & functions:
                found.append(part)
                missing |= functions
        return found

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
    kept = Kept(Staging(root, host["kernel"]["release"]), UPGRADE).read()
    if kept is None:
        return []
    whole = _former(root, loader, host, kept, timeout)
    if kept["boot_id"] != host["kernel"]["boot_id"]:
        whole.restore()
        whole.forget()
        return whole.modules
    try:
        whole.undo()
    except HostError as error:
        raise HostError(
            error.reason,
            f"an upgrade of {', '.join(whole.modules)} was cut off on this host, and what ran before could not be put "
            f"back: {error}",
        ) from error
    return whole.modules


def kept_of(root: Path, release: str, order: str) -> dict[str, Any]:
    """What is kept of the host before the change *order*; HostError if nothing is. The host's lock is held.

    If the change itself was cut off, or its undoing, that is what is there to be made whole.
    """
    staging = Staging(root, release)
    for name in (UPGRADE, FORMER):
        kept = Kept(staging, name).read()
        if kept and kept["order"] == order:
            return kept
    raise HostError(
        "not-kept",
        f"what ran before the change '{order}' is not kept for the kernel {release} on this host: it has been changed "
        "again since, or runs another kernel; roll out what is to be on",
    )


def take_back(root: Path, loader: Loader, order: str, timeout: float) -> None:
    """Make the set of the change *order* what it was before that, whatever has become of it; HostError if it can't be.

    If this is cut off, the next one to change the host ends it: it is an upgrade that was cut off.
    """
    host = read_host(root)
    kept = kept_of(root, host["kernel"]["release"], order)
    whole = _former(root, loader, host, kept, timeout)
    cut_off = whole.upgrade.read()
    if cut_off and cut_off["order"] != order:
        mend(root, loader, timeout)
        cut_off = None
    if cut_off is None:
        whole.former.become(UPGRADE)
    whole.undo()
    whole.staging.forget_boots()
    if other := [module for module in whole.modules if not _same(read_host(root), whole.before, module)]:
        raise HostError("wrong-identity", f"{', '.join(other)}: the kernel shows another state than before the change")


def then(host: Host, kept: dict[str, Any]) -> Host:
    """*host* with the set that is *kept* as it was."""
    others = [patch for patch in host["patches"] if patch["module"] not in kept["modules"]]
    core = kept["core"] if CORE_NAME in kept["modules"] else host["core"]
    return {**host, "core": core, "patches": [*others, *kept["patches"]]}


def _same(host: Host, other: Host, module: str) -> bool:
    """Whether *module* is the same to both: of the same bytes and as much in use, or not there."""
    here, there = decide.find(host, module), decide.find(other, module)
    if here is None or there is None:
        return here is there
    return same_identity(here, there) and here.get("enabled") == there.get("enabled")


def _former(root: Path, loader: Loader, host: Host, kept: dict[str, Any], timeout: float) -> Upgrade:
    # The names were kept in their order: what is staged now has no say in it.
    before = {**then(host, kept), "manifests": []}
    parts = [Part(name, "loaded" if name == CORE_NAME else "enabled") for name in kept["names"]]
    return Upgrade(root, loader, parts, before, timeout)


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


def _told(host: Host, parts: list[Part], order: str | None) -> dict[str, Any]:
    """What has to be known of *host* to make the set *parts* again what it was."""
    modules = [part.module for part in parts]
    return {
        "order": order,
        "boot_id": host["kernel"]["boot_id"],
        "names": [part.name for part in parts],
        "core": host["core"],
        "patches": [patch for patch in host["patches"] if patch["module"] in modules],
    }


def _acts(parts: list[Part], host: Host) -> bool:
    """Whether anything is to be done, as far as it is known before; nothing is if the first thing must not be."""
    try:
        return any(decide.changes(decide.steps(host, part)) for part in parts)
    except HostError:
        return False


def _place(part: Part, before: Host) -> int:
    """Where *part* came when the set of *before* was put on; what is new comes last, and the core module first."""
    order = [CORE_NAME, *decide.ours(before)]
    return order.index(part.name) if part.name in order else len(order)


def _is_replaced(part: Part, host: Host) -> bool:
    found = decide.find(host, part.module, part.manifest)
    return bool(found and part.manifest and part.needs_artifact and not same_identity(found, part.manifest))
