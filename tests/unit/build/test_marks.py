# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an author says in a diff. If this breaks, a hook is left out in silence, a function is forced that nobody
named, or a change is ignored that nobody vouched for.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils.build import glue, marks, safety
from ansible_collections.kpatch.fleet.plugins.module_utils.build.emit import emit
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import (
    ElfError,
    EmittedFunction,
    EmittedHook,
    EmittedObject,
    Export,
    ObjectDiff,
    RefusedError,
)
from object_files import Pair, readelf

KMOD = Path(__file__).parents[3] / "kmod"
# The header's own macros, for C that includes nothing of a kernel's.
HEADER = (KMOD / "core" / glue.AUTHOR).read_text(encoding="utf-8").split("/*\n * Shadow variables:")[0]
MARKS = "\n".join(line for line in HEADER.splitlines() if not line.startswith(("#include", "#ifndef"))) + "\n"
MARKS = "#define __used __attribute__((used))\n" + MARKS
BEFORE = """
int limit = 7, state;
static noinline int helper(int x) { return hidden("helper %d", x); }
int first(int x) { return helper(x) + 1; }
int second(int x) { return exported("second", x); }
int __init setup(int x) { return exported("setup", x); }
"""


def diff(pair: Pair, after: str, *, module: str | None = None, before: str = BEFORE) -> ObjectDiff:
    return pair.diff(MARKS + before, MARKS + after, module)


def refusals(found: ObjectDiff) -> list[str]:
    return [f"{refusal.function}: {refusal.reason}" for refusal in found.refusals]


HOOKS = """
static int may(void) { return limit != 7; }
static void done(void) { limit = 8; exported("done"); }
KPATCH_PRE_PATCH(may);
KPATCH_POST_UNPATCH(done);
"""


def test_hooks_come_along_though_no_function_changed(pair: Pair) -> None:
    found = diff(pair, BEFORE + HOOKS)
    assert refusals(found) == []
    assert found.changed == []
    assert [(hook.object, hook.kind, hook.name) for hook in found.hooks] == [
        ("vmlinux", "pre_patch", "may"),
        ("vmlinux", "post_unpatch", "done"),
    ]
    emitted, path = pair.emit(found)
    assert [(hook.kind, hook.alias) for hook in emitted.hooks] == [
        ("pre_patch", "__kpatch_hook_0_may"),
        ("post_unpatch", "__kpatch_hook_1_done"),
    ]
    assert ".discard.kpatch" not in readelf(path, "-S")
    assert "__kpatch_hook_0_may" in readelf(path, "-s")


def test_the_glue_s_names_for_hooks_vanish(pair: Pair) -> None:
    _emitted, path = pair.finished(diff(pair, BEFORE + HOOKS))
    symbols = readelf(path, "-s")
    assert " may\n" in symbols
    assert "__kpatch_hook_" not in symbols


def test_a_hook_is_a_new_function(pair: Pair) -> None:
    found = diff(pair, BEFORE + "static int helper(int);\nstatic int may(void) { return 0; }\nKPATCH_PRE_PATCH(may);")
    assert refusals(found) == []
    before = BEFORE + "static int __used may(void) { return 0; }\n"
    (refusal,) = refusals(diff(pair, before + "KPATCH_PRE_PATCH(may);", before=before))
    assert refusal.startswith("may: it is a pre_patch hook, but not a new function of the patch")


def test_an_object_has_one_hook_of_a_kind(pair: Pair) -> None:
    found = diff(pair, BEFORE + HOOKS + "static int also(void) { return 0; }\nKPATCH_PRE_PATCH(also);")
    with pytest.raises(RefusedError, match="also: vmlinux has a pre_patch hook already, may"):
        pair.emit(found)


def test_a_forced_function_and_no_other(pair: Pair) -> None:
    marked = BEFORE.replace("+ 1", "+ 2").replace('"second"', '"other"') + "KPATCH_FORCE_UNSAFE(first);"
    found = diff(pair, marked)
    assert refusals(found) == []
    assert {function.name: function.forced for function in found.changed} == {"first": True, "second": False}
    emitted, _path = pair.emit(found)
    assert {function.name: function.forced for function in emitted.functions} == {"first": True, "second": False}
    with pytest.raises(RefusedError, match="first: the patch forces it, and the kernel's own livepatch can't"):
        emit([diff(pair, marked)], pair.folder / "livepatch.o", livepatch=True)


THREAD = """
extern int kthread_should_stop(void);
int loop(void *data) { while (!kthread_should_stop()) exported("loop", 1); return 0; }
"""


def test_the_loop_of_a_thread_is_told_unless_it_is_forced(pair: Pair) -> None:
    """What of it is known before the set is refused on a host: drivers/scsi/scsi_error.c."""
    before, after = BEFORE + THREAD, BEFORE.replace("+ 1", "+ 2") + THREAD.replace('p", 1', 'p", 2')
    (note,) = diff(pair, after, before=before).notes
    assert (note.name, "if one sleeps in it for as long as it lives" in note.reason) == ("loop", True)
    assert diff(pair, f"{after}KPATCH_FORCE_UNSAFE(loop);", before=before).notes == []


def test_what_is_forced_has_to_be_replaced(pair: Pair) -> None:
    after = BEFORE.replace("+ 1", "+ 2")
    for name in ("second", "nowhere"):
        (refusal,) = refusals(diff(pair, f"{after}KPATCH_FORCE_UNSAFE({name});"))
        assert refusal.startswith(f"{name}: the patch forces it, but does not replace it in this kernel")


@pytest.mark.parametrize("mark", ["KPATCH_IGNORE_FUNCTION(setup);", 'KPATCH_IGNORE_SECTION(".init.text");'])
def test_a_changed_function_is_ignored(pair: Pair, mark: str) -> None:
    after = BEFORE.replace("+ 1", "+ state").replace('"setup", x', '"setup", x, state')
    (refusal,) = refusals(diff(pair, after))
    assert refusal.startswith("setup: it is __init code")
    found = diff(pair, after + mark)
    assert refusals(found) == []
    assert [function.name for function in found.changed] == ["first"]
    assert [note.name for note in found.notes] == ["setup"]
    assert "the patch says to ignore that" in found.notes[0].reason


ENDS = """
#define __exit __attribute__((section(".exit.text"), __noinline__)) notrace
static int __init start(void) { return exported("start"); }
static void __exit stop(void) { exported("stop"); }
int init_module(void) __attribute__((alias("start")));
void cleanup_module(void) __attribute__((alias("stop")));
"""


def test_the_ends_of_a_module_are_called_as_their_author_calls_them(pair: Pair) -> None:
    """module_exit() gives the function a second name, a global one."""
    before = BEFORE + ENDS
    after = before.replace("+ 1", "+ 2").replace('exported("st', 'hidden("st')
    found = diff(pair, after, module="demo", before=before)
    assert refusals(found) == []
    assert [each.name for each in found.left] == ["start"]
    assert [function.name for function in found.changed] == ["first", "stop"]
    found = diff(pair, after + "KPATCH_IGNORE_FUNCTION(stop);", module="demo", before=before)
    assert refusals(found) == []
    assert [function.name for function in found.changed] == ["first"]
    assert [note.name for note in found.notes] == ["stop"]


def test_a_function_that_calls_an_ignored_one_goes_on_calling_the_kernel_s(pair: Pair) -> None:
    after = BEFORE.replace("+ 1", "+ 2").replace('"helper %d"', '"other %d"')
    found = diff(pair, after + "KPATCH_IGNORE_FUNCTION(helper);")
    assert [function.name for function in found.changed] == ["first"]
    _emitted, path = pair.emit(found)
    assert ".klp.sym.vmlinux.helper,0" in readelf(path, "-r")


def test_changed_data_is_ignored(pair: Pair) -> None:
    after = BEFORE.replace("limit = 7", "limit = 8").replace("+ 1", "+ 2")
    (refusal,) = refusals(diff(pair, after))
    assert refusal.startswith("limit: the initial value of existing data changed")
    found = diff(pair, after + "KPATCH_IGNORE_DATA(limit);")
    assert refusals(found) == []
    assert [note.name for note in found.notes] == ["limit"]


def test_an_unknown_list_is_ignored(pair: Pair) -> None:
    entry = '\nasm(".pushsection .odd_list,\\"a\\"\\n.quad first\\n.popsection");\n'
    after = BEFORE.replace("+ 1", "+ 2") + entry
    (refusal,) = refusals(diff(pair, after, before=BEFORE + entry))
    assert 'say KPATCH_IGNORE_SECTION(".odd_list")' in refusal
    assert refusals(diff(pair, after + 'KPATCH_IGNORE_SECTION(".odd_list");', before=BEFORE + entry)) == []


@pytest.mark.parametrize(
    "mark", ["KPATCH_IGNORE_FUNCTION(limit);", "KPATCH_IGNORE_DATA(first);", 'KPATCH_IGNORE_SECTION(".nowhere");']
)
def test_what_is_ignored_has_to_be_there(pair: Pair, mark: str) -> None:
    (refusal,) = refusals(diff(pair, BEFORE.replace("+ 1", "+ 2") + mark))
    assert "but this kernel's file has no such; mend the name" in refusal


def test_a_mark_of_another_header_is_an_error(pair: Pair) -> None:
    with pytest.raises(ElfError, match=r"the mark 'magic=first' is not one of kpatch_author\.h's"):
        diff(pair, BEFORE + '__KPATCH_MARK("magic", "first");')


def test_marks_leave_nothing_in_a_kernel_built_of_the_patched_source(pair: Pair) -> None:
    plain = pair.compile("plain", BEFORE)
    marked = pair.compile("marked", MARKS + BEFORE + "KPATCH_FORCE_UNSAFE(first);\nKPATCH_IGNORE_DATA(limit);")
    script = pair.folder / "discard.lds"
    # As vmlinux.lds.h and module.lds have it.
    script.write_text("SECTIONS { /DISCARD/ : { *(.discard) *(.discard.*) } }")
    for path in (plain, marked):
        subprocess.run(["ld", "-r", "-T", script, "-o", f"{path}.linked", path], check=True)
        subprocess.run(["objcopy", "--strip-all", f"{path}.linked"], check=True)
    assert Path(f"{marked}.linked").read_bytes() == Path(f"{plain}.linked").read_bytes()


def test_forced_functions_are_found_in_the_diff() -> None:
    text = "+ * KPATCH_FORCE_UNSAFE() is not for this\n+KPATCH_FORCE_UNSAFE(one);\n KPATCH_FORCE_UNSAFE(two);\n"
    assert marks.forced(text + "+\tKPATCH_FORCE_UNSAFE( three )\n") == ["one", "three"]


def test_a_shadow_variable_of_the_core_module_s_is_an_import(pair: Pair) -> None:
    pair.exports["kpatch_shadow_get"] = Export(9, "kpatch", "EXPORT_SYMBOL_GPL")
    after = BEFORE.replace("+ 1", "+ (kpatch_shadow_get(0, 1) != 0)")
    emitted, _path = pair.emit(diff(pair, "void *kpatch_shadow_get(void *, unsigned long);\n" + after))
    assert "kpatch_shadow_get" in emitted.exports
    assert emitted.relocs == []


EMITTED = EmittedObject(
    functions=[EmittedFunction("vmlinux", "first", 0, "new_0", "changed", True)],
    hooks=[
        EmittedHook("vmlinux", "pre_patch", "may", "hook_0"),
        EmittedHook("some_module", "post_unpatch", "done", "hook_1"),
    ],
)


def test_the_core_module_s_tables() -> None:
    template = (KMOD / "patch" / glue.TABLES).read_text()
    consistency = {"leave": "patched_set", "switch": "kernel"}
    code = glue.tables(template, "some", EMITTED, {}, consistency)
    assert "extern int hook_0(void);" in code
    assert "static int pre_patch_0(const struct kpatch_object *object)\n{\n\treturn hook_0();\n}" in code
    assert "static void post_unpatch_1(const struct kpatch_object *object)\n{\n\thook_1();\n}" in code
    assert "hooks_0 = {\n\t.pre_patch = pre_patch_0,\n};" in code
    assert re.findall(r"\.hooks = &(\w+),", code) == ["hooks_0", "hooks_1"]
    assert code.count(".force = true,") == 1
    assert '.name = "some_module",' in code


def test_livepatch_s_tables() -> None:
    code = glue.livepatch((KMOD / "patch" / glue.LIVEPATCH).read_text(), "some", EMITTED)
    assert "static int pre_patch_0(struct klp_object *object)\n{\n\treturn hook_0();\n}" in code
    assert ".callbacks.pre_patch = pre_patch_0," in code
    assert ".callbacks.post_unpatch = post_unpatch_1," in code


def test_the_report_tells(pair: Pair) -> None:
    found = diff(pair, BEFORE.replace("+ 1", "+ 2") + HOOKS + "KPATCH_FORCE_UNSAFE(first);")
    emitted, _path = pair.emit(found)
    consistency = {"leave": "patched_set", "switch": "kernel"}
    manifest = {"name": "some", "kernel": {"release": "6.1.0"}, "backend": "kpatch", "consistency": consistency}
    text = safety.text(safety.report(manifest, emitted, [found], "it was asked for"))
    assert "  vmlinux: may: pre_patch hook\n" in text
    assert "  first: it is forced: tasks that are in it go on in the old code" in text
