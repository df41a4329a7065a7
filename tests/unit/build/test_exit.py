# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a module runs last. If these break, a fix of it is left out, or the kernel calls what is not it."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils.build import glue, safety
from ansible_collections.kpatch.fleet.plugins.module_utils.build.emit import emit
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import ObjectDiff, RefusedError
from ansible_collections.kpatch.fleet.plugins.module_utils.build.symtab import read_symbols
from object_files import Pair, names, readelf

KMOD = Path(__file__).parents[3] / "kmod"
MODULE = """
#define __exit __attribute__((section(".exit.text"), __noinline__, noclone)) notrace
#define module_exit(f) void cleanup_module(void) __attribute__((alias(#f)));
int work(int x) { return hidden("work", x); }
static int __exit sweep(int x) { return exported("sweep", x); }
static void __exit tidy(void) { exported("tidy"); }
static void __exit stop(void) { tidy(); exported("stop", sweep(3)); }
static void __exit other(void) { exported("other"); }
void *use = other;
module_exit(stop)
"""


def _diff(pair: Pair, *changes: str, module: str | None = "demo") -> ObjectDiff:
    after = MODULE
    for before, instead in zip(changes[::2], changes[1::2], strict=True):
        assert before in after
        after = after.replace(before, instead)
    return pair.diff(MODULE, after, module)


def _reasons(diff: ObjectDiff) -> list[str]:
    return [f"{refusal.function}: {refusal.reason}" for refusal in diff.refusals]


def test_the_exit_function_of_a_module_is_replaced_by_its_pointer(pair: Pair) -> None:
    diff = _diff(pair, '"stop"', '"stops"', '"work"', '"works"')
    assert diff.refusals == []
    assert {function.name: function.exit for function in diff.changed} == {"stop": True, "work": False}
    emitted, path = pair.finished(diff)
    assert {function.name: function.exit for function in emitted.functions} == {"stop": True, "work": False}
    # A section of this name would go where none is expected; and what it calls is the module's own.
    assert ".exit" not in readelf(path, "--sections")
    assert {"sweep", "tidy"} <= {reloc.symbol for reloc in emitted.relocs}


def test_what_is_built_in_never_leaves(pair: Pair) -> None:
    diff = _diff(pair, '"stop"', '"stops"', '"work"', '"works"', module=None)
    assert diff.refusals == []
    assert (names(diff.changed), names(diff.left)) == (["work"], ["stop"])


def test_exit_code_that_it_alone_calls_comes_along(pair: Pair) -> None:
    diff = _diff(pair, '"sweep"', '"sweeps"')
    assert diff.refusals == []
    assert [(function.name, function.exit) for function in diff.changed] == [("stop", True)]
    assert names(diff.added_functions) == ["sweep"]


def test_new_exit_code_comes_along(pair: Pair) -> None:
    fresh = 'static void __exit fresh(void) { exported("fresh"); }\nstatic void __exit stop(void) { fresh();'
    diff = _diff(pair, "static void __exit stop(void) {", fresh)
    assert diff.refusals == []
    assert (names(diff.changed), names(diff.added_functions)) == (["stop"], ["fresh"])


def test_it_may_lose_its_mark(pair: Pair) -> None:
    """Then the linker puts it elsewhere; the kernel finds the old one all the same."""
    diff = _diff(pair, "static void __exit stop", "static void stop", '"stop"', '"stops"')
    assert diff.refusals == []
    assert [(function.name, function.exit) for function in diff.changed] == [("stop", True)]


def test_one_that_ftrace_sees_is_replaced_as_any(pair: Pair) -> None:
    unmarked = MODULE.replace("static void __exit stop", "static noinline void stop")
    diff = pair.diff(unmarked, unmarked.replace('"stop"', '"stops"'), "demo")
    assert [(function.name, function.exit) for function in diff.changed] == [("stop", False)]


def test_exit_code_that_others_may_call_is_refused(pair: Pair) -> None:
    (reason,) = _reasons(_diff(pair, '"other"', '"others"'))
    assert reason.startswith("other: it is __exit code, or was, and can't be redirected")


@pytest.mark.parametrize(
    ("instead", "reason"),
    [
        ("module_exit(other)", "other: it becomes the exit function of its module"),
        ("", "stop: it is no longer the exit function of its module"),
    ],
    ids=["another", "none"],
)
def test_a_module_keeps_the_exit_function_that_it_has(pair: Pair, instead: str, reason: str) -> None:
    # One that nobody names any more is gone, but for a mark.
    keep = MODULE.replace("static void __exit stop", "static void __exit __attribute__((used)) stop")
    diff = pair.diff(keep, keep.replace("module_exit(stop)", instead), "demo")
    assert diff.plan is None
    assert any(found.startswith(reason) for found in _reasons(diff))


def test_a_module_that_had_none_gets_none(pair: Pair) -> None:
    without = MODULE.replace("module_exit(stop)", "void *used = stop;")
    diff = pair.diff(without, without + "module_exit(stop)", "demo")
    assert any(found.startswith("stop: it becomes the exit function") for found in _reasons(diff))


def test_livepatch_is_told_no(pair: Pair) -> None:
    diff = _diff(pair, '"stop"', '"stops"')
    with pytest.raises(RefusedError, match="stop: it is the exit function of demo, .*ask for backend kpatch"):
        emit([diff], pair.folder / "livepatch.o", livepatch=True)


def test_the_core_module_and_the_report_are_told(pair: Pair) -> None:
    diff = _diff(pair, '"stop"', '"stops"', '"work"', '"works"')
    emitted, _path = pair.emit(diff)
    consistency = {"leave": "patched_set", "switch": "kernel"}
    code = glue.tables((KMOD / "patch" / glue.TABLES).read_text(), "some", emitted, {}, consistency)
    assert code.count(".exit = true,") == 1
    manifest = {"name": "some", "kernel": {"release": "6.1.0"}, "backend": "kpatch", "consistency": consistency}
    text = safety.text(safety.report(manifest, emitted, [diff], "it was asked for"))
    assert "  stop: demo leaves by it: while it is switched demo can't be removed" in text


def test_exit_code_lies_with_the_rest_of_a_module_s_code(pair: Pair) -> None:
    """Of several symbols of one name sympos counts addresses: .exit.text stays in its place, .init.text does not."""
    source = 'static void notrace __attribute__((section("{}"), used)) same(void) {{ exported("{}"); }}'
    files = [pair.compile(f"of{at}", source.format(name, at)) for at, name in enumerate((".exit.text", ".text.late"))]
    sections = [entry.section for entry in read_symbols(pair.link("m.ko", *files, kernel=False)).entries("same")]
    assert len(set(sections)) == 2
    assert sections == sorted(sections)
