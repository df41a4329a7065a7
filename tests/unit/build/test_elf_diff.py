# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which functions count as changed. A wrong answer replaces too much, or leaves the bug in."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils.build.diff import diff_objects
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import ObjectDiff, refused_as_left
from object_files import Pair, names, readelf

BASE = """
static int secret = 5;
static noinline int helper(int x) { return hidden("helper %d", x) + secret; }
int first(int x) { exported("first %d", x); return helper(x) * 3; }
int second(int x) { exported("second %d", x); return helper(x) + 7; }
"""


def test_the_same_source_twice_differs_in_nothing(pair: Pair) -> None:
    diff = pair.diff(BASE, BASE)
    assert not diff.changed
    assert not diff.added_functions
    assert not diff.refusals


def test_one_changed_function(pair: Pair) -> None:
    diff = pair.diff(BASE, BASE.replace("* 3", "* 4"))
    assert not diff.refusals
    assert names(diff.changed) == ["first"]
    assert diff.changed[0].sympos == 0
    assert diff.changed[0].reason == "its code changed"


def test_a_changed_string_changes_its_function_only(pair: Pair) -> None:
    diff = pair.diff(BASE, BASE.replace("second %d", "SECOND %d"))
    assert names(diff.changed) == ["second"]
    assert "refers to" in diff.changed[0].reason


def test_a_string_more_does_not_change_those_behind_it(pair: Pair) -> None:
    after = BASE.replace('exported("first %d", x);', 'exported("first %d", x); exported("more");')
    assert names(pair.diff(BASE, after).changed) == ["first"]


def test_a_new_static_helper(pair: Pair) -> None:
    after = BASE.replace("int first", "static noinline int extra(int x) { return x ^ secret; }\nint first").replace(
        "* 3", "* extra(x)"
    )
    diff = pair.diff(BASE, after)
    assert not diff.refusals
    assert names(diff.changed) == ["first"]
    assert names(diff.added_functions) == ["extra"]


def test_a_removed_function(pair: Pair) -> None:
    before = BASE + "int third(int x) { return hidden(0, x); }"
    diff = pair.diff(before, BASE)
    assert diff.removed == ["third"]
    assert not diff.changed


def test_a_warning_on_another_line_is_no_change(pair: Pair) -> None:
    before = "int first(int x) { if (x) WARN(); return 1; }"
    assert not pair.diff(before, "\n\n" + before).changed


def test_another_warning_is_a_change(pair: Pair) -> None:
    before = "int first(int x) { if (x) { WARN(); } return 1; }"
    diff = pair.diff(before, before.replace("WARN();", '{\n#line 1 "other.c"\nWARN(); }'))
    assert names(diff.changed) == ["first"]
    assert "__bug_table" in diff.changed[0].reason


TWO_MESSAGES = """
int first(int x) { if (x) exported(WARN_WITH("one")); return 1; }
int second(int x) { if (x) exported(WARN_WITH("two")); return 1; }
"""


def test_code_that_hands_over_its_bug_entry(pair: Pair) -> None:
    """From 6.19 on WARN() with a message does: the entry is the same wherever in the table and on whatever line."""
    assert not pair.diff(TWO_MESSAGES, f"int zero(int x) {{ WARN_WITH(0); return x; }}\n{TWO_MESSAGES}").changed
    assert names(pair.diff(TWO_MESSAGES, TWO_MESSAGES.replace("two", "three")).changed) == ["second"]


def test_an_untraceable_static_function_is_replaced_with_its_callers(pair: Pair) -> None:
    """The kernel's `inline` implies notrace: what SYSCALL_DEFINE() defines is such a function."""
    before = """
static noinline notrace int fast(int x) { return hidden("fast", x); }
int first(int x) { return fast(x) + 1; }
int second(int x) { return hidden("second", x); }
"""
    diff = pair.diff(before, before.replace('"fast", x', '"fast", x + 1'))
    assert not diff.refusals
    assert names(diff.changed) == ["first"]
    assert "it calls fast" in diff.changed[0].reason
    assert names(diff.added_functions) == ["fast"]


COUNTERS = """
int first(int x) { static int count; return exported("a", count += x); }
int second(int x) { static int count; return exported("b", count -= x); }
"""


def test_numbered_statics_are_told_by_their_use(pair: Pair) -> None:
    """A new static in front renumbers all that follow."""
    after = "int zero(int x) { static int count; return exported(0, count ^= x); }\n" + COUNTERS
    diff = pair.diff(COUNTERS, after)
    assert not diff.refusals
    assert not diff.changed
    assert names(diff.added_functions) == ["zero"]
    assert len(diff.added_data) == 1


def test_a_new_static_before_one_of_the_same_name(pair: Pair) -> None:
    """The old state stays with the old use, and not with the first."""
    before = 'int first(int x) { { static int n; exported("old", n += x); } return 0; }'
    after = before.replace("{ {", '{ { static int n; exported("new", n += x); } {')
    diff = pair.diff(before, after)
    assert not diff.refusals
    assert names(diff.changed) == ["first"]
    assert len(diff.added_data) == 1
    emitted, path = pair.emit(diff)
    assert emitted.functions[0].name == "first"


def test_function_names_are_told_by_content(pair: Pair) -> None:
    before = "int first(int x) { return exported(__func__, x); } int second(int x) { return exported(__func__); }"
    diff = pair.diff(before, "int zero(int x) { return exported(__func__, 2); }\n" + before)
    assert not diff.changed
    assert not diff.refusals


def test_a_constant_of_a_function_belongs_to_it(pair: Pair) -> None:
    """A message more renumbers the others; one that changed changes its function."""
    before = """
int first(int x) { static const char msg[] = "one"; return exported(msg, x); }
int second(int x) { static const char msg[] = "two"; return exported(msg, x); }
"""
    diff = pair.diff(before, before.replace("two", "three") + before.replace("first", "f").replace("second", "s"))
    assert not diff.refusals
    assert names(diff.changed) == ["second"]
    assert not diff.added_data


COLD = """
extern cold int complain(const char *why, ...);
int first(int x) { if (x > 5) { complain("big"); complain("x", x); } return exported("f", x); }
int complain(const char *why, ...) { return hidden(why); }
"""


def test_a_changed_cold_part_changes_its_function(pair: Pair) -> None:
    diff = pair.diff(COLD, COLD.replace('"big"', '"huge"'), None, "-freorder-blocks-and-partition")
    assert not diff.refusals
    assert names(diff.changed) == ["first"]
    assert diff.changed[0].reason == "its .cold part changed"
    _emitted, path = pair.emit(diff)
    assert b"first.cold" in path.read_bytes()


@pytest.mark.parametrize(
    ("before", "after", "what", "reason"),
    [
        ("int table[2] = {1, 2};", "int table[2] = {1, 3};", "table", "initial value"),
        ("const int table[2] = {1, 2};", "const int table[2] = {1, 3};", "table", "initial value"),
        ("int table[2];", "int table[3];", "table", "initial value"),
        ("int notrace fast(int x) { return x; }", "int notrace fast(int x) { return -x; }", "fast", "__fentry__"),
        (
            "",
            'int counter __attribute__((section(".data..percpu"))); int get(void) { return counter; }',
            "counter",
            "per-cpu",
        ),
        ("", 'int param __attribute__((section("__param"), used)) = 3;', "param", "parameter"),
        ("", 'int tp __attribute__((section("__tracepoints"), used)) = 3;', "tp", "tracepoint"),
        ("", 'int quirk __attribute__((section(".pci_fixup_final"), used)) = 3;', "quirk", "PCI devices"),
    ],
)
def test_what_is_refused(pair: Pair, before: str, after: str, what: str, reason: str) -> None:
    diff = pair.diff(BASE + before, BASE + after)
    assert diff.plan is None
    assert [refusal.function for refusal in diff.refusals] == [what]
    assert reason in diff.refusals[0].reason
    assert diff.refusals[0].file == "kernel/demo.c"


BOOT = """
static int limit = 5, queue, other;
#define __exit __attribute__((section(".exit.text"), __noinline__, used)) notrace
int work(int x) { return hidden("work", x) + limit; }
int __init boot(int x) { limit = 7; return exported("boot", x); }
int __init neighbour(int x) { return boot(x) + boot(x + 1); }
int __exit leave(int x) { return exported("leave", x); }
int *p[] = { &queue, &other };
"""
WORKS = ('return hidden("work", x)', 'return hidden("works", x)')
HAS_RUN = "it is __init code, which a running kernel has left behind"


def left(diff: ObjectDiff) -> dict[str, str]:
    return {each.name: each.reason for each in diff.left}


def test_init_code_that_changed_with_other_code_is_left_and_told(pair: Pair) -> None:
    """Its neighbours, which call it, have not changed."""
    after = BOOT.replace(*WORKS).replace('exported("boot", x)', 'exported("boots", x) + exported("twice", x, x)')
    diff = pair.diff(BOOT, after)
    assert diff.refusals == []
    assert names(diff.changed) == ["work"]
    assert left(diff) == {"boot": HAS_RUN}
    assert refused_as_left([diff]) == []


def test_init_code_alone_is_refused(pair: Pair) -> None:
    """Whatever the file: what other files of a patch change may be all there is to patch."""
    boot = pair.diff(BOOT, BOOT.replace('exported("boot", x)', 'exported("boots", x)'))
    assert boot.changed == []
    (refusal,) = refused_as_left([boot])
    assert refusal.function == "boot"
    assert refusal.reason == f"{HAS_RUN}, and nothing else is there to patch"
    assert refused_as_left([boot, pair.diff(BOOT, BOOT.replace(*WORKS))]) == []


def test_init_code_that_is_new_is_left(pair: Pair) -> None:
    diff = pair.diff(BOOT, BOOT.replace(*WORKS) + 'int __init more(int x) { return exported("more", x); }')
    assert diff.refusals == []
    assert left(diff) == {"more": HAS_RUN}


@pytest.mark.parametrize(
    ("init", "code", "more", "what"),
    [
        ("fresh = 3;", "+ fresh", "static int fresh;", "fresh"),
        ("added(3);", "", "static noinline int added(int x) { return hidden(0, x); }", "added"),
        ("elsewhere(3);", "", "int elsewhere(int);", "elsewhere"),
        ("queue = exported(0);", "+ queue", "", "queue"),
    ],
    ids=["new variable", "new function", "new in another file", "now used"],
)
def test_init_code_that_sets_up_what_the_patch_uses_is_refused(
    pair: Pair, init: str, code: str, more: str, what: str
) -> None:
    """It will not be set up: the patch would queue work in a queue that there is not."""
    before = BOOT.replace("int work", f"{more if 'elsewhere' in more else ''}\nint work")
    after = BOOT.replace("int work", f"{more}\nint work").replace("limit = 7;", f"limit = 7; {init}")
    after = after.replace("+ limit;", f"+ limit {code};").replace(*WORKS)
    (refusal,) = pair.diff(before, after).refusals
    assert refusal.function == "boot"
    assert f"would now see to {what}, which the patch uses" in refusal.reason


def test_init_code_that_sets_up_what_nobody_uses_anew_is_left(pair: Pair) -> None:
    """The limit it set before; the other variable no changed code looks at."""
    after = BOOT.replace("limit = 7;", "limit = 8; other = exported(0);").replace(*WORKS)
    assert left(pair.diff(BOOT, after)) == {"boot": HAS_RUN}


def test_exit_code_runs_in_modules_only(pair: Pair) -> None:
    after = BOOT.replace(*WORKS).replace('"leave"', '"leaves"')
    diff = pair.diff(BOOT, after)
    assert diff.refusals == []
    assert left(diff) == {"leave": "it is __exit code, which never runs where it is built into the kernel"}
    (refusal,) = pair.diff(BOOT, after, "demo").refusals
    assert (refusal.function, "__exit code" in refusal.reason) == ("leave", True)


EXPORT = 'int key __attribute__((section("___ksymtab+key"), used)) = 3;'


def test_a_new_export_is_left_out_and_told(pair: Pair) -> None:
    export = 'int fresh(int x) { return x; } void *key __attribute__((section("___ksymtab+fresh"), used)) = fresh;'
    diff = pair.diff(BASE, BASE.replace("* 3", "* 4") + export)
    assert diff.refusals == []
    assert [note.name for note in diff.notes] == ["key"]
    assert "it is not exported" in diff.notes[0].reason


@pytest.mark.parametrize("after", ["", EXPORT.replace("= 3", "= 4")], ids=["no longer", "in another way"])
def test_what_the_kernel_exports_it_goes_on_exporting(pair: Pair, after: str) -> None:
    diff = pair.diff(BASE + EXPORT, BASE.replace("* 3", "* 4") + after)
    assert diff.refusals == []
    assert [note.name for note in diff.notes] == ["key"]
    assert "goes on exporting it as it did" in diff.notes[0].reason


def test_an_exports_checksum_goes_with_it(pair: Pair) -> None:
    """As 5.10 has them; pci_resize_resource() moves to another file in 5.10.262."""
    checksum = 'asm(".pushsection \\"___kcrctab+key\\",\\"a\\"\\n.weak __crc_key\\n.long __crc_key\\n.popsection");'
    diff = pair.diff(BASE + EXPORT + checksum, BASE.replace("* 3", "* 4"))
    assert diff.refusals == []
    assert [note.name for note in diff.notes] == ["key"]


def test_a_quirk_of_a_pci_device_is_patched_like_any_function(pair: Pair) -> None:
    """The list stays the kernel's, and calls the original."""
    table = 'asm(".pushsection .pci_fixup_final,\\"a\\"\\n.balign 16\\n.long 1, 2\\n.long first - .\\n.popsection");'
    diff = pair.diff(BASE + table, BASE.replace("* 3", "* 4") + table)
    assert diff.refusals == []
    assert names(diff.changed) == ["first"]


WEAK = "int __attribute__((weak)) soft(int x) { return x; }"


def test_a_weak_function_that_runs_is_patched(pair: Pair) -> None:
    diff = pair.diff(WEAK, WEAK.replace("return x", "return -x"))
    assert names(diff.changed) == ["soft"]


def test_a_weak_function_that_is_overridden_is_refused(pair: Pair) -> None:
    """Nobody calls it: the patch would do nothing."""
    original, patched = pair.compile("original", WEAK), pair.compile("patched", WEAK.replace("return x", "return -x"))
    other = pair.compile("other", "int soft(int x) { return exported(0, x); }")
    (refusal,) = diff_objects(original, patched, pair.context(original, other)).refusals
    assert refusal.function == "soft"
    assert "weak" in refusal.reason


def test_all_refusals_come_at_once(pair: Pair) -> None:
    before = BASE + "int table = 1; int notrace fast(int x) { return x; }"
    after = before.replace("table = 1", "table = 2").replace("return x; }", "return -x; }")
    assert sorted(refusal.function for refusal in pair.diff(before, after).refusals) == ["fast", "table"]


# struct alt_instr of 6.1 (arch/x86/include/asm/alternative.h).
ALTERNATIVE = """
#define ALTERNATIVE(new) asm volatile("1: .byte 0x0f,0x1f,0x44,0,0\\n.pushsection .altinstructions,\\"a\\"\\n" \\
    ".long 1b - .\\n.long 4f - .\\n.word 516\\n.byte 5\\n.byte 5f - 4f\\n.popsection\\n" \\
    ".pushsection .altinstr_replacement,\\"ax\\"\\n4: " new "\\n5:\\n.popsection")
int nothing_instead(int x) { ALTERNATIVE(""); return exported("nothing %d", x); }
int jump_instead(int x) { ALTERNATIVE("jmp 7f"); x += hidden("jump %d", x); asm volatile("7: nop"); return x * 3; }
"""


def test_an_alternative_without_replacement_does_not_change_with_the_next(pair: Pair) -> None:
    after = ALTERNATIVE.replace('x += hidden("jump %d", x);', 'x += hidden("jump %d", x); x += hidden("more %d", x);')
    diff = pair.diff(ALTERNATIVE, after)
    assert not diff.refusals
    assert names(diff.changed) == ["jump_instead"]


NAMED = """
#define __sched __attribute__((section(".sched.text")))
static __sched noinline int inner(int x) { return hidden("inner", x); }
int __sched outer(int x) { return BODY; }
"""


def test_a_call_within_a_named_section_gets_a_relocation(pair: Pair) -> None:
    """The assembler fills it in and notes nothing: moved by itself, the code would jump into the blue."""
    before = NAMED.replace("BODY", "inner(x) + 1")
    diff = pair.diff(before, NAMED.replace("BODY", "inner(x - 7) + 1"))
    assert diff.refusals == []
    assert names(diff.changed) == ["outer"]
    _emitted, path = pair.emit(diff)
    assert "vmlinux.inner,0" in readelf(path, "-r")
    assert "\te8 00 00 00 00" in objdump(path)


def test_who_calls_a_neighbour_that_grew_has_not_changed(pair: Pair) -> None:
    """The distance is another one, and stands in its code."""
    before = NAMED.replace("BODY", "inner(x) + 1") + "int __sched last(int x) { return outer(x) + inner(x); }"
    diff = pair.diff(before, before.replace('"inner", x', '"inner, which has grown", x * 12345 + 6'))
    assert diff.refusals == []
    assert names(diff.changed) == ["inner"]


def test_a_short_jump_to_a_neighbour_is_not_moved(pair: Pair) -> None:
    """There is no relocation for a distance of one byte."""
    before = NAMED.replace("BODY", "inner(x)")
    diff = pair.diff(before, NAMED.replace("BODY", "inner(x - 7)"))
    assert [(refusal.function, "branches to inner" in refusal.reason) for refusal in diff.refusals] == [("outer", True)]
    alone = pair.diff(before, before.replace('"inner", x', '"inner", -x'))
    assert [changed.name for changed in alone.changed] == ["inner"]
    assert alone.refusals == []


def test_code_that_can_not_be_taken_apart_is_not_moved_from_its_neighbour(pair: Pair) -> None:
    """D6 is no instruction: what seems to be a call of inner may be one."""
    before = NAMED.replace("BODY", '({ asm volatile(".byte 0xd6"); inner(x) + 1; })')
    diff = pair.diff(before, before.replace("+ 1", "+ 2"))
    assert [(refusal.function, "branches to inner" in refusal.reason) for refusal in diff.refusals] == [("outer", True)]


def test_untraceable_code_is_replaced_with_its_callers_in_the_same_section(pair: Pair) -> None:
    before = NAMED.replace("static __sched", "static __sched notrace").replace("BODY", "inner(x) + 1")
    diff = pair.diff(before, before.replace('"inner", x', '"inner", -x'))
    assert diff.refusals == []
    assert names(diff.changed) == ["outer"]
    assert names(diff.added_functions) == ["inner"]


def objdump(path: Path) -> str:
    return subprocess.run(["objdump", "-d", path], capture_output=True, text=True, check=True).stdout
