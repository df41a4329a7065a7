# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a function is in a patch module. A wrong reason sends its author looking in the wrong place."""

from __future__ import annotations

import subprocess
from pathlib import Path

from ansible_collections.kpatch.fleet.plugins.module_utils.build import layout, reasons

SOURCE = """
#define LIMIT(x) \\
    ((x) > 5)
struct state {
    int first;
    enum kind { ONE, TWO } kind;
    unsigned flag : 1;
};

/* Not a function(). */
static inline int small(struct state *s)
{
    return s->first + 1;
}

__attribute__((noinline)) static int user(struct state *s)
{
    return small(s) * 3 + s->flag;
}

SYSCALL_DEFINE2(demo, int, a,
        struct state *, s)
{
    return LIMIT(a) + user(s) + s->kind;
}
"""
COMPILABLE = "#define SYSCALL_DEFINE2(name, t1, a1, t2, a2) int __do_sys_##name(t1 a1, t2 a2)\n" + SOURCE


def compiled(folder: Path, name: str, source: str, *flags: str) -> Path:
    path, out = folder / f"{name}.c", folder / f"{name}.o"
    path.write_text(source)
    subprocess.run(["gcc", "-O2", "-w", *flags, "-c", path, "-o", out], check=True)
    return out


def test_functions_are_found_by_the_kernel_s_style() -> None:
    assert set(reasons.functions(SOURCE)) == {"small", "user", "__do_sys_demo"}


def test_what_a_patch_edits() -> None:
    after = SOURCE.replace("+ 1;", "+ 2;").replace("> 5", "> 6").replace("int first;", "int first;\n\tint more;")
    edited = reasons.edits(SOURCE, after)
    assert edited == reasons.Edits(frozenset({"small"}), frozenset({"LIMIT"}), frozenset({"struct state"}))
    assert reasons.edits(SOURCE, "#line 1\n" + SOURCE) == reasons.Edits()


def test_what_is_inlined_is_told_by_the_object(tmp_path: Path) -> None:
    into = reasons.inlined(compiled(tmp_path, "unit", COMPILABLE, "-g1"))
    assert into["user"] == {"small"}
    assert reasons.inlines_of("user.isra.0", into) == {"small"}


def test_each_kind_of_reason() -> None:
    edited = reasons.Edits(frozenset({"small"}), frozenset({"LIMIT"}), frozenset({"struct state"}))
    texts = reasons.functions(SOURCE)
    assert reasons.why("small", edited, set()) == "the patch edits it"
    assert reasons.why("user.constprop.0", edited, {"small", "x"}) == "it inlines small, which the patch edits"
    said = reasons.why("__do_sys_demo", edited, set(), texts["__do_sys_demo"])
    assert said == "it uses the macro LIMIT, which the patch edits"
    assert reasons.why("other", edited, set()) == "the patch edits struct state"
    assert reasons.why("other", reasons.Edits(), set()) is None


def changed_layout(folder: Path, after: str) -> list[str]:
    types = [
        layout.types_of(compiled(folder, name, source, "-g"), folder)
        for name, source in (("before", COMPILABLE), ("after", after))
    ]
    return [str(change) for change in layout.changes(*types)]


def test_the_same_layout(tmp_path: Path) -> None:
    assert changed_layout(tmp_path, COMPILABLE.replace("* 3", "* 4")) == []


def test_a_member_more_moves_those_behind_it(tmp_path: Path) -> None:
    after = COMPILABLE.replace("int first;", "int first;\n\tlong more;")
    (said,) = changed_layout(tmp_path, after)
    assert said.startswith("struct state: its size was 12 bytes and is 24; more is new, at byte 8; ")
    assert "kind was at byte 4 and is at byte 16" in said
    assert "flag was at byte 8 bit 0, 1 wide and is at byte 20 bit 0, 1 wide" in said


def test_another_type_in_the_same_place(tmp_path: Path) -> None:
    assert changed_layout(tmp_path, COMPILABLE.replace("int first;", "unsigned int first;")) == [
        "struct state: first was of type int and is of type unsigned int"
    ]


def test_an_enumerator_that_means_another_number(tmp_path: Path) -> None:
    assert changed_layout(tmp_path, COMPILABLE.replace("ONE, TWO", "ZERO, ONE, TWO")) == [
        "enum kind: ONE was 0 and is 1; TWO was 1 and is 2"
    ]
