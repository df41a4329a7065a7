# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The states that a host can be in, and how one is read from what host_info saw.

A *look* is the registered result of kpatch.fleet.host_info: its 'host', or why there is none.
*Artifacts* are the manifests, or the part of them that a plan keeps, by name; the core module's name is 'kpatch'.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from ansible_collections.kpatch.fleet.plugins.module_utils.host import decide, stacking
from ansible_collections.kpatch.fleet.plugins.module_utils.host.modules import same_identity
from ansible_collections.kpatch.fleet.plugins.module_utils.manifest import CORE_NAME, LIVEPATCH, module_name

STATES = {
    "absent": "nothing of it is on",
    "staged": "some of it is there but not all of it is on, or a patch is on that has left the set",
    "applied": "all of it is on, and it is these very bytes",
    "restored": "it was taken back: what ran before is on again",
    "transitioning": "a switch is under way",
    "apply-failed": "it could not be put on",
    "stuck": "it could not be taken off",
    "needs-build": "the store has no artifact for its kernel",
    "kernel-changed": "it runs another kernel than the plan says",
    "lost": "it can't be reached, can't be read, or has rebooted meanwhile",
    "foreign-patch": "another live patch holds a function that is to be replaced",
    "damaged": "what it keeps for its boots can't be read",
    "needs-check": "it is as wanted, but its kernel has met with something that our modules don't explain",
    "unknown": "it was begun, and the controller ended before the outcome was known",
    "held": "it was not begun: the rollout stopped before, or its checks did not pass before",
}
# One host in one of these stops the rollout before the next batch.
FAULTS = (
    "lost",
    "apply-failed",
    "stuck",
    "kernel-changed",
    "transitioning",
    "foreign-patch",
    "damaged",
    "needs-check",
    "unknown",
)
# A host is not touched by a plan that found it so.
UNTOUCHABLE = ("lost", "needs-build", "foreign-patch", "damaged", "transitioning")
# What loading our modules does to a kernel: out-of-tree, unsigned, live-patched. Any other new flag is a fault.
EXPECTED_TAINT = frozenset("OEK")

# How a patch that has left the set is there.
_THERE = {"applied": "is on", "staged": "is staged", "transitioning": "is switching"}

Runs = dict[str, Any]
Artifacts = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Verdict:
    """A state out of STATES, and why, for people."""

    state: str
    reason: str = ""


def lost(look: Any) -> Verdict | None:
    """Why nothing is known about the host, or None if its state was read."""
    if isinstance(look, dict) and isinstance(look.get("host"), dict) and not look.get("failed"):
        return None
    message = look.get("msg") if isinstance(look, dict) else None
    text = str(message or "it was not looked at").removeprefix("Task failed: ")
    return Verdict("lost", " ".join(text.split()))


def applied(host: dict[str, Any], names: list[str], artifacts: Artifacts) -> Verdict:
    """How much of the patches *names*, and of the core module if they need it, is on, as the bytes of *artifacts*."""
    if host.get("damaged"):
        return Verdict("damaged", host["damaged"])
    if host.get("unfinished"):
        return Verdict("staged", "an upgrade of it was cut off")
    verdict = _combine({name: _one(host, name, artifacts.get(name)) for name in parts(names, artifacts)})
    return _out_of_order(host, {name: artifacts[name] for name in names}) if verdict.state == "applied" else verdict


def _out_of_order(host: dict[str, Any], artifacts: Artifacts) -> Verdict:
    """Whether a host on which all of *artifacts* is on has them in their order, the lowest first."""
    below = stacking.again(artifacts, host)
    if not below:
        return Verdict("applied")
    told = [f"{name} is below a patch that replaces the same function and belongs below it" for name in below]
    return Verdict("staged", "; ".join(told))


def obsolete(host: dict[str, Any], names: list[str], keep: Sequence[str] = ()) -> list[str]:
    """The patches of ours that the host has, on or staged, and that are not among *names*: they have left the set.

    What a pattern of *keep* fits is another set's, and stays.
    """
    others = [name for name in decide.ours(host) if name not in names]
    return [name for name in others if not any(fnmatchcase(name, pattern) for pattern in keep)]


def unreplaced(host: dict[str, Any], gone: list[str], names: list[str], artifacts: Artifacts) -> list[str]:
    """Those of the patches *gone* whose place none of *names* takes: what they mend is open once they are off.

    A newer build of a patch has its name, and so is none of *gone*. A cumulative one (manifest: replace) takes the
    place of all that it finds of its backend. What is beside it once it is on came later, and is not in it.
    """
    coming = [
        one
        for name in names
        if (one := artifacts.get(name, {})).get("replace") and not _is_on(_loaded(host, module_name(name)), one)
    ]
    return [name for name in gone if not any(_takes_place(one, _loaded(host, module_name(name))) for one in coming)]


def _is_on(loaded: dict[str, Any] | None, artifact: dict[str, Any]) -> bool:
    """Whether what is *loaded* is in use, as these very bytes."""
    return bool(loaded and loaded.get("enabled") and same_identity(loaded, artifact))


def _takes_place(artifact: dict[str, Any], loaded: dict[str, Any] | None) -> bool:
    """Whether a cumulative patch takes the place of what is *loaded*; of what is only staged, it does."""
    backend = (loaded or {}).get("backend")
    return backend is None or backend == artifact.get("backend")


def without(host: dict[str, Any], gone: list[str], verdict: Verdict) -> Verdict:
    """*verdict* on what is to be on, unless all of that is well and one of the patches *gone* is still there."""
    left = {name: _one(host, name, None) for name in gone}
    told = [f"{name} {part.reason or _THERE[part.state]}" for name, part in left.items() if part.state != "absent"]
    if verdict.state != "applied" or not told:
        return verdict
    return Verdict("staged", f"{'; '.join(told)}, and has left the patch set")


def parts(names: list[str], artifacts: Artifacts) -> list[str]:
    """What is to be on for the patches *names*: they, and before them the core module.

    It is not among them where all of *artifacts* are for the kernel's own livepatch.
    """
    needed = any(artifacts.get(name, {}).get("backend") != LIVEPATCH for name in names)
    return [CORE_NAME, *names] if needed else names


def present(host: dict[str, Any], names: list[str], core: bool) -> Verdict:
    """How much of the patches *names*, and of the core module if *core*, is there, whatever its bytes."""
    verdict = _combine({name: _one(host, name, None) for name in [*([CORE_NAME] if core else []), *names]})
    return Verdict("absent", "nothing of it is there") if verdict.state == "absent" else verdict


def foreign(host: dict[str, Any], artifacts: Artifacts) -> Verdict | None:
    """Which live patch of the kernel's own kind holds a function that *artifacts* replace, if one does."""
    ours = {(function["object"], function["name"]) for one in artifacts.values() for function in one["functions"]}
    for patch in host.get("livepatches") or []:
        for held in patch.get("objects") or []:
            for function in held.get("functions") or []:
                if (held["name"], function["name"]) in ours:
                    return Verdict("foreign-patch", f"{patch['module']} holds {held['name']}:{function['name']}")
    return None


def moved(kernel: dict[str, Any], planned: dict[str, Any]) -> Verdict | None:
    """Whether the host has left the boot that the plan saw, and into what."""
    if (kernel["release"], kernel["build_id"]) != (planned["release"], planned["build_id"]):
        return Verdict("kernel-changed", f"it runs {kernel['release']} now, not {planned['release']}; build for it")
    if kernel["boot_id"] != planned["boot_id"]:
        return Verdict("lost", "it has rebooted since the plan was made, and lost its live patches with that")
    return None


def complaints(kernel: dict[str, Any], planned: dict[str, Any]) -> list[str]:
    """What the kernel has met with since the plan was made that our modules don't explain, in words.

    A taint flag shows the first oops or warning only; the counters show each.
    """
    told = []
    flags = sorted(set(kernel["taint"]["flags"]) - set(planned["taint"]) - EXPECTED_TAINT)
    if flags:
        told.append(f"its kernel has new taint flags: {' '.join(flags)}")
    for name, word in (("oops", "oopsed"), ("warn", "warned")):
        now, then = (counters.get(name) for counters in (kernel.get("counters") or {}, planned.get("counters") or {}))
        if now is not None and then is not None and now > then:
            told.append(f"its kernel has {word} {now - then} time{'s' if now - then > 1 else ''}")
    return told


def changed(now: Runs, then: Runs, names: list[str]) -> list[str]:
    """Which of the patches *names* and the core module a host runs otherwise than it did *then*, in words.

    Both are what runs.seen() returned. What is the same has the same bytes and is as much in use.
    """
    modules = [CORE_NAME, *map(module_name, names)]
    return [
        f"{module} is {_runs_as(now, module) or 'off'}, and was {_runs_as(then, module) or 'off'}"
        for module in modules
        if _runs_as(now, module) != _runs_as(then, module)
    ]


def had(then: Runs, names: list[str]) -> bool:
    """Whether one of the patches *names*, or the core module, was there."""
    return any(_runs_as(then, module) for module in [CORE_NAME, *map(module_name, names)])


def _runs_as(runs: Runs, module: str) -> str:
    """How *module* runs, down to its bytes; empty if it is not loaded."""
    loaded = [runs.get("core"), *(runs.get("patches") or [])]
    found = [one for one in loaded if one and one["module"] == module]
    return ", ".join(f"build {one.get('build_id')}{'' if one.get('enabled', True) else ' (off)'}" for one in found)


def _combine(found: dict[str, Verdict]) -> Verdict:
    states = {verdict.state for verdict in found.values()}
    text = "; ".join(f"{name} {part.reason or part.state}" for name, part in found.items())
    if "transitioning" in states:
        return Verdict("transitioning", text)
    if states == {"applied"}:
        return Verdict("applied")
    return Verdict("absent" if states == {"absent"} else "staged", text)


def _one(host: dict[str, Any], name: str, artifact: dict[str, Any] | None) -> Verdict:
    """The state of the core module or of one patch; with an *artifact* only its own bytes count."""
    module = module_name(name)
    loaded = _loaded(host, module)
    if loaded is None:
        return Verdict("staged" if module in (host.get("staged") or []) else "absent")
    if artifact and not same_identity(loaded, artifact):
        return Verdict("staged", f"is on as another build (srcversion {loaded.get('srcversion')})")
    if loaded.get("transition"):
        tasks = loaded.get("blocking") or []
        return Verdict("transitioning", f"is switching, and waits for {'; '.join(tasks)}" if tasks else "")
    if loaded.get("enabled", True):
        at_boot = host.get("at_boot")
        kept = at_boot is None or artifact is None or module in at_boot
        return Verdict("applied") if kept else Verdict("staged", "is on, but not again at a boot")
    return Verdict("staged", "is loaded but disabled")


def _loaded(host: dict[str, Any], module: str) -> dict[str, Any] | None:
    if module == CORE_NAME:
        return host.get("core")
    return next((patch for patch in host.get("patches") or [] if patch["module"] == module), None)
