# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a rollout is, out of the results of its tasks; and that in lines that fit a terminal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.kpatch.fleet.plugins.plugin_utils.states import FAULTS

_WAITING, _CHANGING = "waiting", "changing"
_SLOWEST = 3
# A line and how it is meant: 'good', 'bad', 'busy' or ''.
Line = tuple[str, str]


@dataclass
class Progress:
    """What has been seen of one rollout. *clock* gives seconds."""

    clock: Callable[[], float]
    identity: str = ""
    want: str = "applied"
    batches: list[list[str]] = field(default_factory=list)
    batch: int = 0
    states: dict[str, str] = field(default_factory=dict)
    took: dict[str, float] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)
    verdict: str = ""
    watched: bool = False
    _since: dict[str, float] = field(default_factory=dict)

    def planned(self, result: dict[str, Any]) -> None:
        """A plan was frozen: it is another rollout from here on."""
        self.identity, self.batches = result["id"], result["batches"]
        self.batch, self.reasons, self.verdict = 0, [], ""
        self.states = dict.fromkeys((host for batch in self.batches for host in batch), _WAITING)
        # Hosts that are in no batch are shown only if they need a look.
        outside = {host: planned["state"] for host, planned in result["hosts"].items() if host not in self.states}
        self.states.update({host: state for host, state in outside.items() if state in FAULTS})

    def gate(self, result: dict[str, Any]) -> None:
        if result["open"]:
            self.batch = result["batch"]
        self.reasons, self.watched = result["reasons"], False

    def judged(self, result: dict[str, Any]) -> None:
        """The soak of the batch has ended."""
        self.reasons, self.watched = result["reasons"], True

    def recorded(self, host: str, result: dict[str, Any]) -> None:
        """One step of a host: it begins, or has come to a state."""
        if result.get("state"):
            self.states[host] = result["state"]
            if host in self._since:
                self.took[host] = self.clock() - self._since.pop(host)
        elif result.get("act"):
            self.states[host] = _CHANGING
            self._since[host] = self.clock()

    def reported(self, result: dict[str, Any]) -> None:
        report = result["report"]
        self.want, self.verdict = report["want"], report["decision"]["verdict"]
        self.states = {host["host"]: host["state"] for host in report["hosts"]}
        self.reasons = report["decision"]["reasons"]

    @property
    def pending(self) -> bool:
        """Whether a batch of the plan is left that the rollout did not come to."""
        return bool(self.identity) and self.verdict in ("stop", "go") and self.batch < len(self.batches)

    @property
    def watching(self) -> bool:
        """Whether every host of the batch has its outcome, and the batch has no verdict yet."""
        hosts = self.batches[self.batch - 1] if self.batch else []
        return bool(hosts) and not self.watched and all(self._ended(host) for host in hosts)

    def _ended(self, host: str) -> bool:
        return self.states.get(host) not in (_WAITING, _CHANGING)

    @property
    def finished(self) -> int:
        return sum(map(self._ended, self.states))

    def short(self) -> str:
        """The counts in one line, the worst first."""
        return ", ".join(f"{len(hosts)} {state}" for state, hosts in self._by_state())

    def lines(self, width: int, height: int, plain: bool = False) -> list[Line]:
        """The whole in at most *height* lines of *width* columns; *plain* is for a terminal without UTF-8."""
        if not self.identity:
            return []
        head = f"rollout {self.identity}"
        where = f"batch {self.batch} of {len(self.batches)}{', watched' if self.watching else ''}"
        lines: list[Line] = [(head, ""), (f"{where} {self._bar(max(width - len(where) - 12, 5), plain)}", "")]
        lines += [(f"{state:13} {' '.join(hosts)}", tone(state, self.want)) for state, hosts in self._by_state()]
        if slow := sorted(self.took.items(), key=lambda pair: -pair[1])[:_SLOWEST]:
            lines.append(("slowest: " + ", ".join(f"{host} {seconds:.1f} s" for host, seconds in slow), ""))
        lines += [(f"why: {reason}", "bad") for reason in self.reasons]
        return [(cut(text, width, plain), meant) for text, meant in lines[:height]]

    def _by_state(self) -> list[tuple[str, list[str]]]:
        """The hosts by state: lost ones first, then the other faults, those that are well last."""
        order = [*FAULTS, _CHANGING, "held", "needs-build", "staged", "restored", "absent", _WAITING]
        found: dict[str, list[str]] = {}
        for host, state in self.states.items():
            found.setdefault(state, []).append(host)
        return sorted(found.items(), key=lambda pair: order.index(pair[0]) if pair[0] in order else len(order))

    def _bar(self, width: int, plain: bool) -> str:
        total = len(self.states)
        full = width * self.finished // total if total else width
        done, left = ("#", "-") if plain else ("█", "░")
        return f"{done * full}{left * (width - full)} {self.finished}/{total}"


def tone(state: str, want: str = "applied") -> str:
    """How a state is meant."""
    if state in FAULTS:
        return "bad"
    return "good" if state == want else "busy" if state == _CHANGING else ""


def cut(text: str, width: int, plain: bool) -> str:
    """*text* in one line of *width* columns."""
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    more = "..." if plain else "…"
    return text if len(text) <= width else text[: max(width - len(more), 0)] + more
