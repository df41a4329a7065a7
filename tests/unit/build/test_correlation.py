# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is which in two object files, and what comes along. A wrong pair gives a function somebody else's state."""

from __future__ import annotations

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils.build.diff import diff_objects
from object_files import Pair, names, readelf


def test_clones_that_were_renumbered_are_told_by_their_code(pair: Pair) -> None:
    """A call more in front gives the clones other numbers."""
    before = """
static noinline int work(int how, int x) { if (how > 3) exported("much", x); return hidden("work", x) * how; }
int second(int x) { return work(5, x) + work(5, x + 1); }
int first(int x) { return work(2, x) + work(2, x + 9); }
"""
    after = before + "int third(int x) { return work(1, x) - work(1, x - 1); }"
    flags = (None, "-fipa-cp-clone", "-O3", "-fno-inline")
    diff = pair.diff(before, after, *flags)
    assert not diff.refusals
    assert not {"first", "second"} & set(names(diff.changed))
    assert "third" in names(diff.added_functions)


CLONE = """
asm(".pushsection .text.work.constprop.{0},\\"ax\\"\\n.type work.constprop.{0}, @function\\nwork.constprop.{0}: {1}\\n"
    ".size work.constprop.{0}, .-work.constprop.{0}\\n.popsection");
"""


def test_a_clone_keeps_its_pair_under_another_number(pair: Pair) -> None:
    before = CLONE.format(0, "mov $2,%eax; ret") + CLONE.format(1, "mov $3,%eax; ret")
    after = CLONE.format(0, "mov $3,%eax; ret")
    diff = pair.diff(before, after)
    assert diff.removed == ["work.constprop.0"]
    assert not diff.changed + diff.added_functions + diff.refusals


def test_the_only_clone_is_the_only_clone(pair: Pair) -> None:
    diff = pair.diff(CLONE.format(0, "mov $2,%eax; ret"), CLONE.format(4, "mov $3,%eax; ret"))
    assert [each.change for each in diff.differences] == ["changed"]


def test_a_function_with_an_alias_more_is_the_same_function(pair: Pair) -> None:
    before = "static noinline int work(int x) { return hidden(0, x); } int user(int x) { return work(x) + 1; }"
    after = before + 'int other(int) __attribute__((alias("work")));'
    assert not pair.diff(before, after).differences


ONCE = """
int first(int x) {{ static int __attribute__((section(".data.once"))) __already_done; if (!__already_done) {{
    __already_done = 1; exported("{0}", x); }} return x{1}; }}
"""


def test_a_once_flag_that_nothing_tells_from_others_comes_along(pair: Pair) -> None:
    other = pair.compile("other", ONCE.format("other", "").replace("first", "else_where"))
    original = pair.compile("original", ONCE.format("first", ""))
    patched = pair.compile("patched", ONCE.format("first", " + 1"))
    diff = diff_objects(original, patched, pair.context(original, other))
    assert not diff.refusals
    assert [added.name.split(".")[0] for added in diff.added_data] == ["__already_done"]
    assert "how often a message is said" in diff.added_data[0].reason


def test_any_other_flag_that_nothing_tells_is_refused(pair: Pair) -> None:
    plain = ONCE.replace("__already_done", "state").replace(".data.once", ".data.state")
    other = pair.compile("other", plain.format("other", "").replace("first", "else_where"))
    original = pair.compile("original", plain.format("first", ""))
    patched = pair.compile("patched", plain.format("first", " + 1"))
    (refusal,) = diff_objects(original, patched, pair.context(original, other)).refusals
    assert "symbols named state" in refusal.reason


LIMIT = """
struct ratelimit { int lock, interval, burst, printed; };
int first(int x) { static struct ratelimit _rs = {0, 1250, 10}; if (hidden(&_rs)) exported("often"); return x; }
int second(int x) { static struct ratelimit _rs = {0, 1250, 10}; if (hidden(&_rs)) exported("seldom"); return x; }
"""


def test_a_rate_limit_that_changed_comes_along(pair: Pair) -> None:
    """What the old one counts is of no use to the new one: efivarfs_statfs() of 6.1.190."""
    diff = pair.diff(LIMIT, LIMIT.replace("1250", "500", 1))
    assert not diff.refusals
    assert names(diff.changed) == ["first"]
    assert [(added.name.split(".")[0], "counts afresh" in added.reason) for added in diff.added_data] == [("_rs", True)]
    _emitted, path = pair.emit(diff)
    assert "_rs" not in "".join(line for line in readelf(path, "-s").splitlines() if " UND " in line)


def test_a_rate_limit_that_somebody_else_holds_may_not_change(pair: Pair) -> None:
    held = LIMIT + "static struct ratelimit _rs = {0, 7}; struct ratelimit *keeper = &_rs;"
    (refusal,) = pair.diff(held, held.replace("{0, 7}", "{0, 8}")).refusals
    assert refusal.function == "_rs"
    assert "keeper holds its address" in refusal.reason


def test_any_other_static_whose_value_changed_is_refused(pair: Pair) -> None:
    """It may count what there is: numbers would be given out twice."""
    before = 'int first(int x) { static int number = 3; return exported("first", number++); }'
    (refusal,) = pair.diff(before, before.replace("number = 3", "number = 4")).refusals
    assert refusal.function.startswith("number.")
    assert "the running kernel uses the data as it is" in refusal.reason


TABLE = """
static const int table[] = {1, 2, 3, 4};
int first(int x) { return exported("first", table[x & 3]); }
int second(int x) { return exported("second", table[x & 1]); }
int third(int x) { return exported("third", x); }
"""


def test_a_constant_that_changed_comes_with_all_who_use_it(pair: Pair) -> None:
    diff = pair.diff(TABLE, TABLE.replace("3, 4", "3, 4, 5"))
    assert not diff.refusals
    assert names(diff.changed) == ["first", "second"]
    assert diff.changed[0].reason == "what its code refers to changed: table"
    assert names(diff.added_data) == ["table"]
    assert ("changed", "data", "table") in [(each.change, each.kind, each.name) for each in diff.differences]


# MODULE_DEVICE_TABLE(hid, name), to 6.12 and in 7.2 (include/linux/module.h). There both names are static, and either
# may come first; here the alias does.
DEVICE_TABLES = (
    'extern typeof(NAME) __mod_hid__NAME_device_table __attribute__((unused, alias("NAME")));',
    'asm(".type __mod_device_table__kmod_demo__hid__NAME, @object");'
    'static typeof(NAME) __mod_device_table__kmod_demo__hid__NAME __attribute__((used, alias("NAME")));',
)


@pytest.mark.parametrize("device_table", DEVICE_TABLES)
@pytest.mark.parametrize(
    ("user", "reason"), [("", None), ("struct { const int *ids; } driver = {table};", "driver holds its address")]
)
def test_modpost_is_no_user_of_a_table_of_devices(pair: Pair, device_table: str, user: str, reason: str | None) -> None:
    """Its alias is no other file's: drivers/hid/hid-multitouch.c."""
    before = TABLE + device_table.replace("NAME", "table") + user
    diff = pair.diff(before, before.replace("3, 4", "3, 5"))
    assert [refusal.function for refusal in diff.refusals if str(reason) in refusal.reason] == ["table"] * bool(reason)
    assert names(diff.added_data) == ["table"] * (not reason)


@pytest.mark.parametrize("device_table", DEVICE_TABLES)
def test_a_new_table_of_devices_is_not_the_patch_modules(pair: Pair, device_table: str) -> None:
    """Modpost would make it one, by the name that MODULE_DEVICE_TABLE() gives it."""
    new = "static const int devices[] = {7, 8};" + device_table.replace("NAME", "devices")
    after = new + TABLE.replace("table[x & 3]", "devices[x]")
    assert names(pair.diff(TABLE, after).added_data) == ["devices"]


DISPATCH = """
static noinline int one(int x) { return hidden("one", x); }
static noinline int two(int x) { return hidden("two", x); }
static int (*const table[])(int) = {one, two};
int first(int x) { USE }
"""
READ, HANDED_ON = "return table[x & 1](x) + 1;", 'return exported("t", table);'


def test_a_dispatch_table_that_is_read_may_change(pair: Pair) -> None:
    before = DISPATCH.replace("USE", READ)
    diff = pair.diff(before, before.replace("{one, two}", "{two, one}"))
    assert not diff.refusals
    assert names(diff.changed) == ["first"]


def test_a_table_of_functions_that_is_handed_on_may_not(pair: Pair) -> None:
    before = DISPATCH.replace("USE", HANDED_ON)
    (refusal,) = pair.diff(before, before.replace("{one, two}", "{two, one}")).refusals
    assert refusal.function == "table"
    assert "first hands its address on" in refusal.reason


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ("const int *keeper = table;", "keeper holds its address"),
        ("int __init boot(void) { return exported(0, table); }", ".init.text uses it"),
    ],
)
def test_a_constant_that_somebody_else_holds_may_not(pair: Pair, more: str, reason: str) -> None:
    before = TABLE + more
    refusals = pair.diff(before, before.replace("3, 4", "3, 5")).refusals
    assert [refusal.function for refusal in refusals if reason in refusal.reason] == ["table"]


def test_numbers_in_btf_ids_are_no_difference(pair: Pair) -> None:
    """BTF_ID(func, foo) has a counter and the line in its name: net/ipv4/tcp_bbr.c."""
    before = """
asm(".pushsection .BTF_ids,\\"a\\"\\n.globl __BTF_ID__func__first__712\\n__BTF_ID__func__first__712: .zero 4\\n"
    ".popsection");
extern int __BTF_ID__func__first__712; int *kfuncs = &__BTF_ID__func__first__712;
"""
    assert not pair.diff(before, before.replace("__712", "__815")).differences


def test_a_jump_table_changes_its_function_only(pair: Pair) -> None:
    cases = "".join(f'case {number}: return hidden("{number}", x);' for number in range(8))
    before = "".join(f"int f{number}(int x) {{ switch (x) {{ {cases} }} return {number}; }}" for number in (1, 2))
    after = before.replace("return 2;", "return 3;")
    diff = pair.diff(before, after, None, "-fjump-tables")
    assert not diff.refusals
    assert names(diff.changed) == ["f2"]
    _emitted, path = pair.emit(diff)
    assert ".rodata" in readelf(path, "-S")


TRACED = """
int __tracepoint_demo[4]; int __SCK__demo[2]; int __SCT__demo(int);
#define STATIC_CALL(x) ({ int r; asm volatile("1: call __SCT__demo\\n.pushsection .static_call_sites,\\"aw\\"\\n" \\
    ".long 1b - .\\n.long __SCK__demo - .\\n.popsection" : "=a" (r) : "D" (x)); r; })
asm(".pushsection .static_call.text,\\"ax\\"\\n.globl __SCT__demo\\n__SCT__demo: ret\\n.popsection");
int first(int x) { if (STATIC_BRANCH(&__tracepoint_demo)) exported("traced", x); return STATIC_CALL(x) + x; }
"""


def test_a_tracepoint_of_a_module_without_room_is_left_out_and_told(pair: Pair) -> None:
    traced = TRACED.replace("STATIC_BRANCH", "SHORT_BRANCH")
    diff = pair.diff(traced, traced.replace("+ x", "- x"), "demo")
    assert not diff.refusals
    assert diff.cramped
    assert names(diff.changed) == ["first"]
    (note,) = diff.notes
    assert note.name == "first"
    assert "tracepoint demo of module demo is off" in note.reason
    _emitted, path = pair.emit(diff)
    sections = readelf(path, "-S")
    assert "__jump_table" not in sections
    assert ".static_call_sites" not in sections


def test_a_tracepoint_of_the_kernel_stays(pair: Pair) -> None:
    diff = pair.diff(TRACED, TRACED.replace("+ x", "- x"))
    assert not diff.refusals + diff.notes
    _emitted, path = pair.emit(diff)
    assert "__jump_table" in readelf(path, "-S")
