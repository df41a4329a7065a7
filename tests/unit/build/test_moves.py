# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What moves from one file to another. If these break, its callers elsewhere go on with the old code, or a patch works
on an empty copy of a list that is in use.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils.build import moves
from ansible_collections.kpatch.fleet.plugins.module_utils.build.diff import diff_objects
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import ObjectDiff
from object_files import Pair, names

CALLER = 'int moved(int);\nint user(int x) { return hidden("user", moved(x)); }\n'
MOVED = '__attribute__((noipa)) int moved(int x) { return exported("moved", x); }\n'
FIXED = MOVED.replace('"moved"', '"fixed"')
OTHER = 'int other(int x) { return exported("other", x); }\n'


def _diff(pair: Pair, name: str, before: str, after: str, module: str | None = None) -> ObjectDiff:
    """One of the patch's files."""
    original, patched = pair.compile(f"{name}.original", before), pair.compile(f"{name}.patched", after)
    context = replace(pair.context(original, module=module), source=f"kernel/{name}.c")
    return diff_objects(original, patched, context)


def test_a_function_that_moved_is_redirected_to_where_it_is_now(pair: Pair) -> None:
    old, new = _diff(pair, "old", CALLER + MOVED, CALLER), _diff(pair, "new", OTHER, OTHER + FIXED)
    # Its caller in its file is told by the compiler.
    assert (names(old.changed), names(new.added_functions)) == (["user"], ["moved"])
    assert moves.settle([old, new]) == []
    assert {function.name: function.reason for function in old.changed}["moved"] == "it moves to another file"
    assert old.removed == []
    emitted, _path = pair.finished(old, new)
    assert sorted(function.name for function in emitted.functions) == ["moved", "user"]


def test_a_function_that_is_gone_stays_where_it_is(pair: Pair) -> None:
    old, new = _diff(pair, "old", CALLER + MOVED, CALLER), _diff(pair, "new", OTHER, OTHER.replace("other", "others"))
    assert moves.settle([old, new]) == []
    assert ("moved" in names(old.changed), old.removed) == (False, ["moved"])


def test_what_moves_out_of_a_file_that_is_removed_is_redirected(pair: Pair) -> None:
    old, new = _diff(pair, "old", CALLER + MOVED, ""), _diff(pair, "new", OTHER, OTHER + FIXED)
    assert moves.settle([old, new]) == []
    assert (names(old.changed), old.removed) == (["moved"], ["user"])


KEEPER = 'int (*keeper(void))(int) { return exported("keeper", 1) ? moved : 0; }\n'


def test_a_static_one_that_is_called_by_its_address_has_to_stay(pair: Pair) -> None:
    """A timer holds it; what the other file has may be another function of the name."""
    old, new = _diff(pair, "old", f"static {MOVED}{KEEPER}", ""), _diff(pair, "new", OTHER, f"static {FIXED}{KEEPER}")
    (refusal,) = moves.settle([old, new])
    assert str(refusal).startswith("kernel/old.c: moved: it is static and moves to kernel/new.c, but whoever has its")


def test_a_static_one_whose_file_means_the_other_ones_is_redirected(pair: Pair) -> None:
    old = _diff(pair, "old", f"static {MOVED}{KEEPER}", f"int moved(int);\n{KEEPER}")
    new = _diff(pair, "new", OTHER, OTHER + FIXED)
    assert moves.settle([old, new]) == []
    assert "moved" in names(old.changed)


def test_one_that_its_own_file_alone_calls_is_not_asked_for(pair: Pair) -> None:
    static = f"static noinline {MOVED}{CALLER.splitlines()[1]}"
    old, new = _diff(pair, "old", static, CALLER), _diff(pair, "new", OTHER, OTHER + FIXED)
    assert old.gone == []
    assert moves.settle([old, new]) == []


def test_code_that_is_not_always_there_is_none_to_go_to(pair: Pair) -> None:
    """The neighbour can be loaded without the module that has the function now."""
    old = _diff(pair, "old", CALLER + MOVED, CALLER, "neighbour")
    new = _diff(pair, "new", OTHER, OTHER + FIXED, "demo")
    assert moves.settle([old, new]) == []
    assert "moved" not in names(old.changed)
    needed = replace(old, context=replace(old.context, depends=frozenset({"demo"})))
    assert moves.settle([needed, new]) == []
    assert "moved" in names(needed.changed)


def test_a_function_that_can_not_be_redirected_has_to_stay(pair: Pair) -> None:
    untraced = CALLER + "notrace " + MOVED
    old, new = _diff(pair, "old", untraced, CALLER), _diff(pair, "new", OTHER, OTHER + FIXED)
    (refusal,) = moves.settle([old, new])
    assert str(refusal).startswith("kernel/old.c: moved: it moves to kernel/new.c, and what calls it elsewhere")
    assert "no call to __fentry__" in refusal.reason


USE = 'int {0}(int x) {{ return exported("{0}", count += x); }}\n'


@pytest.mark.parametrize("storage", ["", "static "])
def test_a_variable_has_to_stay(pair: Pair, storage: str) -> None:
    count = f"{storage}int count = 3;\n"
    old = _diff(pair, "old", count + USE.format("user"), "int count_of(void);\nint user(int x) { return count_of(); }")
    new = _diff(pair, "new", OTHER, count + OTHER + USE.format("more"))
    (refusal,) = moves.settle([old, new])
    assert str(refusal).startswith("kernel/old.c: count: it moves to kernel/new.c, but is in use where it is")


def test_constants_and_what_functions_keep_may_be_had_twice(pair: Pair) -> None:
    table = "static const int table[3] = {1, 2, 3};\n"
    user = 'int {0}(int x) {{ static int calls; return exported("{0}", table[x], &table, calls++); }}\n'
    old = _diff(pair, "old", table + user.format("user"), "int user(int x) { return x; }")
    new = _diff(pair, "new", OTHER, table + OTHER + user.format("more"))
    assert moves.settle([old, new]) == []
