# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a function is in a patch module. A wrong reason sends its author looking in the wrong place."""

from __future__ import annotations

import subprocess
from pathlib import Path

from ansible_collections.kpatch.fleet.plugins.module_utils.build import reasons
from object_files import Pair

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
    types = reasons.Edits(types=frozenset({"struct state"}))
    assert reasons.why("other", types, set()) == "the patch edits struct state"
    assert reasons.why("other", edited, set()) is None
    assert reasons.why("other", reasons.Edits(), set()) is None


def test_a_diff_tells_the_reasons(pair: Pair) -> None:
    """The texts tell most; the compiler is asked about what is inlined by way of another."""
    before = """
static inline int small(int x)
{
\treturn hidden("small", x) + 1;
}

static inline int between(int x)
{
\treturn small(x) * 2;
}

int edited(int x)
{
\treturn exported("edited", x);
}

int direct(int x)
{
\treturn small(x);
}

int far(int x)
{
\treturn between(x);
}
"""
    after = before.replace("+ 1", "+ 2").replace('"edited"', '"EDITED"')
    diff = pair.diff(before, after)
    asked = []

    def inlines() -> dict[str, set[str]]:
        asked.append(True)
        return reasons.inlined(pair.compile("debug", after, "-g1"))

    reasons.explain(diff, reasons.edits(before, after), reasons.functions(after), inlines)
    told = {function.name: function.reason for function in diff.changed}
    assert told["edited"].endswith(": the patch edits it")
    assert told["direct"] == told["far"] == "its code changed: it inlines small, which the patch edits"
    assert len(asked) == 1
    emitted, _path = pair.emit(diff)
    assert {function.name: function.reason for function in emitted.functions} == told
