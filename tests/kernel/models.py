# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The consistency models: what each promises about a switch, and what it lets happen that others promise not to.

The promises are the levels of kmod/tests/witness.h: no mixture within a call, within a system call, no thread that
goes back, and nobody in one version while somebody runs the other.
"""

from __future__ import annotations

from dataclasses import dataclass

_LEAVE = ("function", "patched_set", "kernel")
_SWITCH = ("function", "thread", "kernel")


@dataclass(frozen=True)
class Model:
    """A model, what it promises, and which promises of others are seen broken under it."""

    leave: str
    switch: str
    counting: bool
    promises: frozenset[str]
    breaks: frozenset[str]

    def __str__(self) -> str:
        return f"{self.leave} {self.switch}{' counting' if self.counting else ''}"

    def parameters(self) -> list[str]:
        """For insmod of a module that ends in kmod/tests/model.h."""
        numbers = _LEAVE.index(self.leave), _SWITCH.index(self.switch), int(self.counting)
        return [f"{name}={number}" for name, number in zip(("leave", "switching", "means"), numbers, strict=True)]


def _model(name: str, promises: str, breaks: str) -> Model:
    leave, switch, *counting = name.split()
    return Model(leave, switch, bool(counting), frozenset(promises.split()), frozenset(breaks.split()))


MODELS = [
    # A thread goes back only if it is on its way from one function to the other while they flip: too rare to ask for.
    _model("function function", "", "call syscall kernel"),
    _model("function kernel", "thread", "call syscall kernel"),
    _model("patched_set kernel", "call thread kernel", "syscall"),
    _model("patched_set kernel counting", "call thread kernel", "syscall"),
    _model("patched_set thread", "call thread", "syscall kernel"),
    _model("kernel thread", "call syscall thread", "kernel"),
    _model("kernel kernel", "call syscall thread kernel", ""),
]
