# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a patch moves from one file to another: whoever uses it from elsewhere has to find it where it is now.

By itself the one file shows that something is gone, the other something new. A function that was moved is redirected to
the one that the patch brings, as if it had changed. Variables are in use where they are: another is another. So are
static functions that are called by their addresses, a timer's: another file's of the same name may be something else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from ansible_collections.kpatch.fleet.plugins.module_utils.build import elf as e
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import Gone, ObjectDiff, Refusal, is_there

_Names = Callable[[ObjectDiff], Iterable[str]]


def settle(diffs: Iterable[ObjectDiff]) -> list[Refusal]:
    """Redirect the functions that moved among *diffs*, none of which has refusals; a refusal for what can't follow."""
    diffs = list(diffs)
    refusals = [*_moved_variables(diffs), *_moved_callbacks(diffs)]
    for diff in diffs:
        for gone in diff.gone:
            arrived = _arrived(diffs, diff, gone.function.name)
            if arrived is not None:
                refusals += _follow(diff, gone, *arrived)
    return refusals


def _arrived(diffs: Iterable[ObjectDiff], origin: ObjectDiff, name: str) -> tuple[ObjectDiff, e.Symbol] | None:
    """Where a function of *origin* is now, if the code there is in memory whenever its callers are."""
    for diff in diffs:
        for symbol in diff.plan.added if diff.plan is not None else ():
            if symbol.name == name and is_there(diff.context.object, origin.context):
                return diff, symbol
    return None


def _follow(origin: ObjectDiff, gone: Gone, target: ObjectDiff, symbol: e.Symbol) -> Iterator[Refusal]:
    function, source = gone.function, origin.context.source
    if gone.why_not is not None:
        yield Refusal(
            source,
            function.name,
            f"it moves to {target.context.source}, and what calls it elsewhere would go on with the old one: "
            f"{gone.why_not}; leave it in its file",
        )
    elif origin.plan is not None:
        origin.removed.remove(function.name)
        origin.changed.append(function)
        origin.plan.functions.append((function, symbol))


def _moved_variables(diffs: Iterable[ObjectDiff]) -> Iterator[Refusal]:
    """A list that moved with the functions that use it would be an empty one beside the one that is in use."""
    for origin, name, target in _moved(diffs, lambda diff: diff.lost_variables, lambda diff: diff.new_variables):
        yield Refusal(
            origin,
            name,
            f"it moves to {target}, but is in use where it is, and the patch would have another; leave it in its file",
        )


def _moved_callbacks(diffs: Iterable[ObjectDiff]) -> Iterator[Refusal]:
    """A timer that is set calls the old one."""
    for origin, name, target in _moved(diffs, lambda diff: diff.lost_callbacks, _new_functions):
        yield Refusal(
            origin,
            name,
            f"it is static and moves to {target}, but whoever has its address goes on calling the old one; leave it in "
            "its file",
        )


def _new_functions(diff: ObjectDiff) -> list[str]:
    return [each.name for each in diff.added_functions]


def _moved(diffs: Iterable[ObjectDiff], lost: _Names, new: _Names) -> Iterator[tuple[str, str, str]]:
    """The names that one file has lost and another one of the same object has got, between the two files."""
    diffs = list(diffs)
    arrived = {(diff.context.object, name): diff.context.source for diff in diffs for name in new(diff)}
    for diff in diffs:
        for name in lost(diff):
            target = arrived.get((diff.context.object, name))
            if target is not None:
                yield diff.context.source, name, target
