# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator lets a rollout risk (kpatch_policy): checked as a whole before anything is looked at."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.kpatch.fleet.plugins.plugin_utils import blackout
from ansible_collections.kpatch.fleet.plugins.plugin_utils.errors import FleetError

Policy = dict[str, Any]

DEFAULTS: Policy = {
    "domain": "",  # the host variable that names a host's failure domain
    "release_canaries": True,  # each kernel release has a canary before its bulk
    "max_down": 0,  # most hosts in a batch, those included that were lost before; 0 is no limit
    "max_down_per_domain": 0,  # the same in one failure domain
    "blackout": [],  # windows in UTC in which no batch begins
    "throttle": 0,  # most hosts of a batch that are changed at the same time; 0 is all
    "deadline": 30,  # seconds that a switch may wait for tasks before it is turned back
    "budget": 0,  # how many hosts, or which share of those to be changed, may fail; no canary ever
    "soak": 30,  # seconds that a batch is watched before the next begins
    "looks": 2,  # how often each of its hosts is looked at meanwhile; 0 is no soak
    "checks": [],  # what is asked of each host before, and at each look
    "on_failure": "batch",  # what is taken back if a gate fails: nothing (hold), the batch, or all
}
ON_FAILURE = ("hold", "batch", "all")
# One of these says what is checked; the others how.
CHECKS = ("service", "command", "url", "load", "errors")
_HOW = {"name", "status", "timeout", "pattern"}
_SHARE = re.compile(r"([0-9]|[1-9][0-9]|100)%")


def check(given: Any) -> Policy:
    """*given* with the defaults for what it leaves out; FleetError names what can't be."""
    if not isinstance(given, dict):
        raise FleetError(f"kpatch_policy: {given!r} is no dictionary")
    unknown = sorted(set(given) - set(DEFAULTS))
    if unknown:
        raise FleetError(f"kpatch_policy: there is no {unknown[0]!r}: use {', '.join(DEFAULTS)}")
    policy = {**DEFAULTS, **given}
    for key, holds in _RULES.items():
        if not holds(policy[key]):
            raise FleetError(f"kpatch_policy: {key} can't be {policy[key]!r}: {_MEANT[key]}")
    for window in policy["blackout"]:
        blackout.parse(window)
    for one in policy["checks"]:
        _check_check(one)
    return {**policy, "checks": _named(policy["checks"]), "looks": policy["looks"] if policy["soak"] else 0}


def of(plan: dict[str, Any]) -> Policy:
    """The policy of *plan*; one that was made before there were policies has the defaults."""
    return {**DEFAULTS, **plan.get("policy", {})}


def allowed(policy: Policy, hosts: int) -> int:
    """How many of *hosts* hosts may fail."""
    text = str(policy["budget"])
    return hosts * int(text[:-1]) // 100 if text.endswith("%") else int(text)


def title(one: dict[str, Any]) -> str:
    """What a check is called in the ledger, in reports and in notices: without what may be a secret of it."""
    kind = next(kind for kind in CHECKS if kind in one)
    return str(one.get("name") or f"{kind} {_SHOWN.get(kind, str)(one[kind])}")


def _named(checks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """*checks*, each with a name of its own, by which its results are known."""
    titles = [title(one) for one in checks]
    seen = [titles[: number + 1].count(name) for number, name in enumerate(titles)]
    return [
        {**one, "name": name if count == 1 else f"{name} ({count})"} for one, name, count in zip(checks, titles, seen)
    ]


def _program(command: str | list[str]) -> str:
    """The program of a command, without its arguments."""
    return (shlex.split(command) if isinstance(command, str) else command)[0]


def _address(url: str) -> str:
    """A URL without user and query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


_SHOWN: dict[str, Callable[[Any], str]] = {"command": _program, "url": _address}


def _check_check(one: Any) -> None:
    kinds = [kind for kind in CHECKS if isinstance(one, dict) and kind in one]
    if len(kinds) != 1:
        raise FleetError(f"kpatch_policy: checks: {one!r} has to have exactly one of {', '.join(CHECKS)}")
    unknown = sorted(set(one) - {*kinds, *_HOW})
    if unknown:
        raise FleetError(f"kpatch_policy: checks: {one!r}: there is no {unknown[0]!r}")
    if not _KINDS[kinds[0]](one[kinds[0]]):
        raise FleetError(f"kpatch_policy: checks: {one!r}: {kinds[0]} {_KIND_MEANT[kinds[0]]}")


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _deadline(value: Any) -> bool:
    """The core module takes 1 ms to a day; a second is the least that a wait is good for."""
    return _number(value) and 1 <= value <= 86400


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _command_line(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(shlex.split(value))
    except ValueError:
        return False


def _has_host(value: str) -> bool:
    try:
        return bool(urlsplit(value).hostname)
    except ValueError:
        return False


def _texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(_text(one) for one in value)


def _budget(value: Any) -> bool:
    return _count(value) or (isinstance(value, str) and (value.isdigit() or bool(_SHARE.fullmatch(value))))


def _list(value: Any) -> bool:
    return isinstance(value, list)


_RULES: dict[str, Callable[[Any], bool]] = {
    "domain": lambda value: isinstance(value, str),
    "release_canaries": lambda value: isinstance(value, bool),
    "max_down": _count,
    "max_down_per_domain": _count,
    "blackout": _list,
    "throttle": _count,
    "deadline": _deadline,
    "budget": _budget,
    "soak": _number,
    "looks": _count,
    "checks": _list,
    "on_failure": lambda value: value in ON_FAILURE,
}
_MEANT = {
    "domain": "give the name of a host variable, for instance rack",
    "release_canaries": "give true or false",
    "max_down": "give a number of hosts; 0 is no limit",
    "max_down_per_domain": "give a number of hosts; 0 is no limit",
    "blackout": "give a list of windows, for instance ['08:00-18:00']",
    "throttle": "give a number of hosts; 0 is no limit",
    "deadline": "give a number of seconds from 1 to 86400",
    "budget": "give a number of hosts, or a share from '0%' to '100%'",
    "soak": "give a number of seconds",
    "looks": "give a number",
    "checks": "give a list",
    "on_failure": f"give one of {', '.join(ON_FAILURE)}",
}
_KINDS: dict[str, Callable[[Any], bool]] = {
    "service": _text,
    "command": lambda value: _command_line(value) or _texts(value),
    "url": lambda value: _text(value) and value.startswith(("http://", "https://")) and _has_host(value),
    "load": _number,
    "errors": _number,
}
_KIND_MEANT = {
    "service": "is the name of a systemd unit",
    "command": "is a command line with all its quotes closed, or a list of its words",
    "url": "begins with http:// or https:// and a host",
    "load": "is the highest load per processor",
    "errors": "is the highest number of lines of the kernel's log a minute",
}
