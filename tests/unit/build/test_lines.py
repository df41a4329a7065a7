# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines that moved. If these fail, every patch of somebody else's build replaces all functions below its first hunk."""

from __future__ import annotations

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils.build import objdiff
from ansible_collections.kpatch.fleet.plugins.module_utils.build.instruction import loaded_constant
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import ObjectDiff
from object_files import Pair

FILE = 'int first(int x) { exported("assertion failed at %s (%d)", __FILE__, __LINE__ + 300); return hidden("x", x); }'
FUNCTION = 'int first(int x) { exported("why", __func__, __LINE__ + 300); return hidden("x", x); }'
TWO = FILE.replace("return", 'exported("again", __FILE__, __LINE__ + 300); return')
EMBEDDED = """
#define TEXT(x) #x
#define STRING(x) TEXT(x)
int first(int x) { return exported("field at " __FILE__ ":" STRING(__LINE__), x); }
"""


def compared(pair: Pair, before: str, after: str) -> ObjectDiff:
    return objdiff.compare(pair.compile("original", before), pair.compile("patched", after), None, None)


@pytest.mark.parametrize("before", [FILE, FUNCTION, TWO, EMBEDDED], ids=["file", "function", "two", "in a string"])
def test_a_line_that_moved_is_no_difference(pair: Pair, before: str) -> None:
    diff = compared(pair, before, "\n" * 7 + before)
    assert not diff.differences
    assert [note.name for note in diff.notes] in (["first"], [])


def test_where_lines_stay_as_they_were_no_number_is_one(pair: Pair) -> None:
    """The builder's own patches keep __LINE__: what differs in them is a change."""
    diff = pair.diff(FILE, FILE.replace("300", "301"))
    assert [changed.name for changed in diff.changed] == ["first"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (FILE, FILE.replace('"x", x', '"x", x + 1')),
        (FILE.replace('__FILE__', '"name"'), FILE.replace('__FILE__', '"name"').replace("300", "301")),
        (TWO, TWO.replace("__LINE__ + 300)", "__LINE__ + 301)", 1).replace("+ 300", "+ 302")),
        (FILE.replace("300", "(x << 3)"), FILE.replace("300", "(x << 4)")),
    ],
    ids=["code as well", "a number beside no place", "not all moved alike", "an operand"],
)  # fmt: skip
def test_what_is_not_a_line_is_a_difference(pair: Pair, before: str, after: str) -> None:
    diff = compared(pair, before, after)
    assert [changed.name for changed in diff.changed] == ["first"]


@pytest.mark.parametrize(
    ("code", "at", "field"),
    [
        ("ba 2c010000", 2, (1, 5)),  # mov $300,%edx
        ("41b8 2c010000", 3, (2, 6)),  # mov $300,%r8d
        ("68 2c010000", 1, (1, 5)),  # push $300
        ("c70424 2c010000", 4, (3, 7)),  # movl $300,(%rsp)
        ("c7442408 2c010000", 4, (4, 8)),  # movl $300,8(%rsp)
        ("6a 2c", 1, (1, 2)),  # push $44
        ("81fa 2c010000", 2, None),  # cmp $300,%edx
        ("488d15 2c010000", 3, None),  # lea 300(%rip),%rdx
    ],
)
def test_where_a_constant_is_loaded(code: str, at: int, field: tuple[int, int] | None) -> None:
    assert loaded_constant(bytes.fromhex(code), at) == field
