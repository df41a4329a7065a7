# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files a header's change can matter to, by names. If this breaks, a file that it reaches keeps the fault.

Whatever is left out is compiled here with both headers: the object files have to be the same.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils.build import mentions, outline, touched
from hypothesis import given, settings
from hypothesis import strategies as st
from object_files import kernel_tree

HEADER, OTHER, PRIVATE = "include/net/some.h", "include/net/other.h", "drivers/x/private.h"
KNOWS = f"#include <{HEADER.removeprefix('include/')}>\n"


class Case(NamedTuple):
    """A header, how it changes, what is beside it, and which of the C files may use what changes."""

    before: str
    after: str
    files: dict[str, str]
    users: str


def inline(name: str, value: object, kind: str = "static inline") -> str:
    return f"{kind} int {name}(int n)\n{{\n\treturn n + {value};\n}}\n"


def calls(called: str) -> str:
    return f"int user(int n) {{ return {called}(n); }}\n"


def within(macro: str, called: str) -> str:
    return f"int user(int n)\n{{\n#define {macro}\n\treturn {called}(n);\n}}\n"


USER = calls("dst_dev")
KNOWN = "static inline int dst_dev(int n);\n"
NONE = "int none(int n) { return n; }\n"
PAIR = {"a.c": USER, "b.c": NONE}
ONE, TWO = inline("dst_dev", 1), inline("dst_dev", 2)
MINE = inline("dst_my_dev", 1), inline("dst_my_dev", 2)
OWN = "#define P(a, b) a##_##b\n"
SIXTY = inline("paging64", 1), inline("paging64", 2)
STATE = "struct dst_state {{ {0} a; }};\n"

CASES = {
    "a function": Case(ONE, TWO, PAIR, "a"),
    "one that is always inline": Case(ONE, inline("dst_dev", 2, "static __always_inline __must_check"), PAIR, "a"),
    "one that is new": Case("", TWO, {"b.c": NONE}, ""),
    "a comment": Case("/* one */\n" + ONE, ONE + "// two, and dst_dev()\n/* {\n */", PAIR, ""),
    "white space": Case(ONE, ONE.replace("\t", "   ") + "\n\n", PAIR, ""),
    "a line's number": Case("\n" + ONE, f'#line 2 "{HEADER}"\n' + ONE, PAIR, ""),
    "a macro": Case("#define dst_dev(n) (n)\n", "#define dst_dev(n) \\\n\t(n + 1)\n", PAIR, "a"),
    "a macro's being": Case("", "#define NEW 1\n", {"a.c": "#ifdef NEW\nint a;\n#endif\n", "b.c": NONE}, "a"),
    "a prototype": Case("", "extern int dst_dev(int n) __must_check;\n", {"a.c": USER, "b.c": NONE}, "a"),
    "a struct": Case(STATE.format("int"), STATE.format("long"), {"a.c": "struct dst_state s;", "b.c": NONE}, "a"),
    "an enum": Case("enum e { A, B };\n", "enum e { A, C, B };\n", {"a.c": "int b = B;", "b.c": NONE}, "a"),
    "an enum in a struct": Case("struct s { enum { A, B } e; };", "struct s { enum { B, A } e; };", {"a.c": NONE}, "a"),
    "a type's name": Case("typedef int id;", "typedef long id;", {"a.c": "id a;", "b.c": NONE}, "a"),
    "a condition around what is new": Case("", f"#ifdef X\n{ONE}#else\n{TWO}#endif\n", PAIR, "a"),
    "a condition around what was there": Case(ONE, f"#ifndef X\n{ONE}#endif\n", PAIR, "ab"),
    "another condition": Case(f"#ifdef X\n{ONE}#endif\n", f"#ifndef X\n{ONE}#endif\n", PAIR, "ab"),
    "the end of one": Case(f"#if 1\n{ONE}#endif\nint b;", f"#if 1\n{ONE}int b;\n#endif\n", PAIR, "ab"),
    "another branch": Case(f"#ifdef X\n{ONE}#endif\n", f"#ifdef X\n{ONE}#else\n{TWO}#endif\n", PAIR, "ab"),
    "a condition within": Case(
        "static inline int dst_dev(int n)\n{\n#ifdef X\n\tif (n)\n#endif\n\t\treturn 1;\n\treturn 0;\n}\n",
        "static inline int dst_dev(int n)\n{\n#ifndef X\n\tif (n)\n#endif\n\t\treturn 1;\n\treturn 0;\n}\n",
        PAIR,
        "a",
    ),
    "a definition": Case("", "int dst_dev(int n) { return n; }\n", {"b.c": NONE}, "b"),
    "a static function that is not inline": Case("", "static int dst_dev(int n) { return n; }\n", {"b.c": NONE}, "b"),
    "an attribute of unknown meaning": Case("", inline("lone", 1, "static inline __odd"), {"b.c": NONE}, "b"),
    "a struct that a macro makes": Case(
        "struct s { struct_group_tagged(tag, m, int a;); };",
        "struct s { struct_group_tagged(tag, m, long a;); };",
        {"a.c": "int a = sizeof(struct tag);\n", "b.c": NONE},
        "ab",
    ),
    "an include": Case("", f"#include <{OTHER.removeprefix('include/')}>\n", {"b.c": NONE, OTHER: "int x;\n"}, "b"),
    "a pragma": Case("", "#pragma pack(1)\n", {"b.c": "struct { char c; int i; } b;\n"}, "b"),
    "what is behind a pragma": Case("#pragma pack(1)\n" + ONE, "#pragma pack(1)\n" + TWO, PAIR, "a"),
    "a quotation mark": Case(
        "#ifdef NEVER\n#error don't\n#endif\n/* it's { */\n" + ONE,
        "/* isn't */\n#ifdef NEVER\n#error don't\n#endif\n" + TWO,
        PAIR,
        "a",
    ),
    "a macro that is called": Case("", "DEFINE_THING(x);\n", {"b.c": f"#define DEFINE_THING(x) int x\n{NONE}"}, "b"),
    "what has no end": Case("int a;\n", "int a; {\n", {"b.c": NONE}, "b"),
    "two at once, of which one has an attribute behind": Case(
        inline("one", 1).replace(")", ") __odd") + "extern int two(int n);\n",
        inline("one", 1).replace(")", ") __odd") + "extern long two(int n);\n",
        {"a.c": "int user(int n) { return two(n); }\n", "b.c": NONE},
        "ab",
    ),
    "a function that has an attribute behind": Case(
        "int f(int n) __cold __printf(1, 2);\n" + ONE.replace("(int n)", "(int n) __cold"),
        "int f(int n) __cold __printf(1, 2);\n" + TWO.replace("(int n)", "(int n) __cold"),
        PAIR,
        "a",
    ),
    "a function by way of a macro": Case(
        ONE, TWO, {"a.c": "int f(int n) { return CALL(n); }\n", "b.c": NONE, OTHER: "#define CALL(n) dst_dev(n)\n"}, "a"
    ),
    "a function by way of another": Case(
        ONE,
        TWO,
        {"a.c": "int f(int n) { return by_way(n); }\n", "b.c": NONE, OTHER: KNOWN + inline("by_way", "dst_dev(n)")},
        "a",
    ),
    "a function by way of a definition": Case(
        ONE, TWO, {"b.c": NONE, OTHER: "static int g(int n) { return dst_dev(n); }\n"}, "b"
    ),
    "a struct by way of a pointer": Case(
        STATE.format("int"),
        STATE.format("long"),
        {"a.c": "int f(void) { return sizeof(*get()); }\n", "b.c": NONE, OTHER: "struct dst_state *get(void);\n"},
        "a",
    ),
    "a condition elsewhere": Case("", "#define NEW 1\n", {"b.c": NONE, OTHER: "#ifdef NEW\nint there;\n#endif\n"}, "b"),
    "a header of one directory": Case(
        ONE,
        TWO,
        {"a.c": "int f(int n) { return ours(n); }\n", "b.c": NONE, PRIVATE: KNOWN + inline("ours", "dst_dev(n)")},
        "a",
    ),
    "a name that is put together": Case(
        ONE, TWO, {"a.c": "int f(int n) { return D(dev)(n); }\n", "b.c": NONE, OTHER: "#define D(x) dst_##x\n"}, "a"
    ),
    "one with another end": Case(
        ONE,
        TWO,
        {"a.c": "int f(int n) { return D(dst)(n); }\n", "b.c": NONE, OTHER: "#define D(x, ...) x ## _dev\n"},
        "a",
    ),
    "one without an underscore between": Case(
        inline("paging64", 1),
        inline("paging64", 2),
        {"a.c": "int f(int n) { return P(64)(n); }\n", "b.c": NONE, OTHER: "#define P(bits) paging \\\n\t##bits\n"},
        "a",
    ),
    "one of arguments alone": Case(
        ONE,
        TWO,
        {"a.c": "int f(int n) { return P(dst_, dev)(n); }\n", "b.c": NONE, OTHER: "#define P(a, b) a##b\n"},
        "a",
    ),
    "one of arguments in another way": Case(
        ONE,
        TWO,
        {"a.c": "int f(int n) { return P(dst, _dev)(n); }\n", "b.c": NONE, OTHER: "#define P(a, b) a##b\n"},
        "a",
    ),
    "one with the underscore between": Case(
        ONE,
        TWO,
        {"a.c": "#define P(a, b) a##_##b\nint f(int n) { return P(dst, dev)(n); }\n", "b.c": NONE},
        "a",
    ),
    "one that a macro of the directory makes": Case(
        ONE,
        TWO,
        {"a.c": "int f(int n) { return P(dst, dev)(n); }\n", "b.c": NONE, PRIVATE: "#define P(a, b) a##_##b\n"},
        "a",
    ),
    "one that its own macro makes": Case(
        OWN + ONE,
        OWN + TWO,
        {"a.c": "int f(int n) { return P(dst, dev)(n); }\n", "b.c": NONE},
        "a",
    ),
    "a macro within a body": Case(*SIXTY, {"a.c": within("P(x) paging##x", "P(64)"), "b.c": NONE}, "a"),
    "one of two arguments within a body": Case(
        *MINE, {"a.c": within("D(x, y) dst_##x##_##y", "D(my, dev)"), "b.c": NONE}, "a"
    ),
    "one of arguments alone within a body": Case(
        ONE, TWO, {"a.c": within("P(x, y) x##_##y", "P(dst, dev)"), "b.c": NONE}, "a"
    ),
    "a macro behind a call without a semicolon": Case(
        *SIXTY,
        {"a.c": f"#define THING(x) int x;\nTHING(y)\n#define P(x) paging##x\n{calls('P(64)')}", "b.c": NONE},
        "a",
    ),
    "one of two arguments": Case(
        inline("dst_get_my_dev", 1),
        inline("dst_get_my_dev", 2),
        {"a.c": calls("D(get, my_dev)"), "b.c": NONE, OTHER: "#define D(x, y) dst_##x##_##y\n"},
        "a",
    ),
    "one of two arguments side by side": Case(
        inline("paging64x", 1),
        inline("paging64x", 2),
        {"a.c": calls("D(64, x)"), "b.c": NONE, OTHER: "#define D(x, y) paging##x##y\n"},
        "a",
    ),
    "one of arguments alone with more underscores": Case(
        *MINE, {"a.c": "#define P(a, b) a##_##b\n" + calls("P(dst, my_dev)"), "b.c": NONE}, "a"
    ),
    "one with more underscores that its own macro makes": Case(
        OWN + MINE[0], OWN + MINE[1], {"a.c": calls("P(dst, my_dev)"), "b.c": NONE}, "a"
    ),
    "one put together twice": Case(
        inline("dst_a_my", 1),
        inline("dst_a_my", 2),
        {"a.c": calls("G(a)"), "b.c": NONE, OTHER: "#define G(x) F(x##_my)\n#define F(y) dst##_##y\n"},
        "a",
    ),
    "one behind a letter": Case(
        inline("ffoo", 1), inline("ffoo", 2), {"a.c": "#define F(x) f##x\n" + calls("F(foo)"), "b.c": NONE}, "a"
    ),
    "one between a letter and an end": Case(
        inline("paging_x", 1),
        inline("paging_x", 2),
        {"a.c": calls("G(aging)"), "b.c": NONE, OTHER: "#define G(a) p##a##_x\n"},
        "a",
    ),
    "an enum of a macro's names": Case(
        "#define FIRST Z, A\nenum k { FIRST, B };\n",
        "#define FIRST Z, C, A\nenum k { FIRST, B };\n",
        {"a.c": "int b = A;\n", "b.c": NONE},
        "ab",
    ),
    "an enum of a macro's calls": Case(
        "#define EN(x) K_##x,\n#define LIST EN(A) EN(B)\nenum k { LIST };\n",
        "#define EN(x) K_##x,\n#define LIST EN(A) EN(C) EN(B)\nenum k { LIST };\n",
        {"a.c": "int b = K_B;\n", "b.c": NONE},
        "ab",
    ),
    "an enum of which both macros change": Case(
        "#define EN(x) K_##x,\n#define LIST(F) F(A) F(B)\nenum k { LIST(EN) };\n",
        "#define EN(x, y) K_##x,\n#define LIST(F) F(A, 1) F(C, 1) F(B, 1)\nenum k { LIST(EN) };\n",
        {"a.c": "int b = K_B;\n", "b.c": NONE},
        "ab",
    ),
    "an enum's value by a macro": Case(
        "#define V 1\nenum k { A = V, B };\n",
        "#define V 2\nenum k { A = V, B };\n",
        {"a.c": "int b = B;", "b.c": NONE},
        "a",
    ),
    "a macro with a struct in it": Case(
        "#define FIELDS struct in { int a; } x;\n",
        "#define FIELDS struct in { long a; } x;\n",
        {"a.c": "struct s { FIELDS };\nint x = sizeof(struct in);", "b.c": NONE},
        "ab",
    ),
    "a function that a macro names": Case(
        "#define decl(x) x##_get(int n)\nstatic inline int decl(one) { return n + 1; }\n",
        "#define decl(x) x##_get(long n)\nstatic inline int decl(one) { return n + 2; }\n",
        {"a.c": calls("one_get"), "b.c": NONE},
        "ab",
    ),
    "braces that depend on a condition": Case(
        "static inline int one(int n)\n{\n#ifdef X\n\tif (n) {\n#else\n\t{\n#endif\n\t\treturn n;\n\t}\n}\n" + ONE,
        "static inline int one(int n)\n{\n#ifdef X\n\tif (n) {\n#else\n\t{\n#endif\n\t\treturn n;\n\t}\n}\n" + TWO,
        PAIR,
        "ab",
    ),
    "a parameter of its name": Case(ONE, TWO, {"b.c": NONE, OTHER: "#define M(dst_dev) (dst_dev)\n"}, ""),
    "a declaration that a macro renames": Case(
        ONE, TWO, {"a.c": "int f(int n) { return there(n); }\n", OTHER: "#define dst_dev there\n"}, "a"
    ),
}


def sources(folder: Path, case: Case) -> list[str]:
    """Write the files: the C files include all headers, the changed one last."""
    headers = [path for path in case.files if path.endswith(".h")]
    above = "".join(f'#include "{path.rpartition("/")[2]}"\n' if path == PRIVATE else "" for path in headers)
    above = ("#include <net/other.h>\n" if OTHER in headers else "") + above + KNOWS
    texts = {HEADER: case.before}
    for path, text in case.files.items():
        texts[path if path.endswith(".h") else f"drivers/x/{path}"] = text if path.endswith(".h") else above + text
    for path, text in texts.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="ascii")
    return [path for path in texts if path.endswith(".c")]


def found(root: Path, case: Case) -> set[str]:
    """The files that are told to be users."""
    tree = kernel_tree(root)
    tree.objects.mkdir(parents=True)
    built = sources(tree.source, case)
    return touched.users(tree, [HEADER], {HEADER: case.after}, built, lambda line: None)[1]


def test_a_header_that_is_not_understood_reaches_its_own_users(tmp_path: Path) -> None:
    files = {"a.c": f'#include "private.h"\n{NONE}', "b.c": NONE, PRIVATE: "int a;\n"}
    tree = kernel_tree(tmp_path)
    tree.objects.mkdir(parents=True)
    built = ["drivers/x/a.c", "drivers/x/b.c"]
    for path, text in {HEADER: ONE, **files}.items():
        place = tree.source / (path if path.endswith(".h") else f"drivers/x/{path}")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text if path.endswith(".h") else KNOWS + text)
    texts = {HEADER: TWO, PRIVATE: "int a, b;\n"}
    assert touched.users(tree, texts, texts, built, lambda line: None)[1] == {"drivers/x/a.c"}


@pytest.mark.parametrize(("header", "counts"), [("include/generated/made.h", True), (".tmp_4711/tried.h", False)])
def test_what_kbuild_generates_counts(tmp_path: Path, header: str, counts: bool) -> None:
    """Not what it tries the compiler with for another build: it is gone a moment later, and reading it failed then."""
    case = CASES["one that is new"]
    tree = kernel_tree(tmp_path)
    (tree.objects / header).parent.mkdir(parents=True)
    (tree.objects / header).write_text("static int made(void) { return dst_dev(1); }\n")
    built = sources(tree.source, case)
    users = touched.users(tree, [HEADER], {HEADER: case.after}, built, lambda line: None)[1]
    assert users == (set(built) if counts else set())


def compiled(root: Path, path: str, header: str) -> bytes:
    """The object file of *path* with this text of the header."""
    folder = root / "source"
    (folder / HEADER).write_text(header, encoding="ascii")
    macros = ["-D__must_check=", "-D__always_inline=inline", "-D__cold=", "-D__printf(a,b)="]
    macros += ["-D__odd=__attribute__((used))", "-Dstruct_group_tagged(tag,name,members)=struct tag { members } name"]
    subprocess.run(["gcc", "-O2", "-w", "-Iinclude", *macros, "-c", path, "-o", "out.o"], cwd=folder, check=True)
    return (folder / "out.o").read_bytes()


def check_others(root: Path, case: Case, users: set[str]) -> None:
    """That the change is nothing to those who are no users."""
    for path in (f"drivers/x/{name}" for name in case.files if name.endswith(".c")):
        if path not in users:
            assert compiled(root, path, case.before) == compiled(root, path, case.after)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_who_may_use_a_change(tmp_path: Path, case: Case) -> None:
    users = found(tmp_path, case)
    assert users == {f"drivers/x/{name}.c" for name in case.users}
    check_others(tmp_path, case, users)


def test_two_declarations_are_not_taken_for_one() -> None:
    text = inline("one", 1).replace(")", ") __odd") + "struct two { int a; };\nint three(void) __cold { }\nint four;"
    pieces = outline.outline(text)
    assert pieces is not None
    assert [each.split("\n")[0] for each in pieces] == [
        "static inline int one(int n) __odd",
        "int three(void) __cold { }",
        "int four;",
    ]
    assert outline.names(pieces[0]) is None
    assert outline.names("static inline int one(void) { } int two(void);") is None


def test_a_search_that_costs_too_much_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mentions, "_WORTH", 0)
    assert len(found(tmp_path, CASES["a function"])) == len(PAIR)


# How a C file or the other header may come by a function of the header's.
WAYS = ("{}(n)", "CALL({})(n)", "PASTE(f, _{tail})(n)", "F({tail})(n)", "U(f, {tail})(n)", "w_{tail}(n)", "n")
KINDS = ("static inline int {}(int n) {{ return n + {}; }}", "#define {}(n) (n + {})", "enum {{ {}_c = {} }};")


@settings(max_examples=120, deadline=None)
@given(
    kinds=st.lists(st.sampled_from(KINDS), min_size=4, max_size=4),
    wrapped=st.lists(st.tuples(st.sampled_from(WAYS), st.integers(0, 3)), min_size=4, max_size=4),
    used=st.lists(st.tuples(st.sampled_from(WAYS), st.integers(0, 3)), min_size=3, max_size=3),
    changed=st.sets(st.integers(0, 3), min_size=1, max_size=2),
)
def test_no_change_that_a_compiler_sees_is_missed(
    kinds: list[str], wrapped: list[tuple[str, int]], used: list[tuple[str, int]], changed: set[int]
) -> None:
    """Names that are written, put together, or used by way of others."""

    def header(changed: set[int]) -> str:
        return "".join(kind.format(f"f_{n}x", 7 * (n in changed)) + "\n" for n, kind in enumerate(kinds))

    def call(way: str, number: int) -> str:
        plain = kinds[number].startswith("enum")
        return f"n + f_{number}x_c" if plain else way.format(f"f_{number}x", tail=f"{number}x")

    macros = "#define CALL(x) x\n#define PASTE(a, b) a##b\n#define F(x) f_##x\n#define U(a, b) a##_##b\n"
    order = [
        f"#define w_{n}x(n) ({call(way, of)})\n" for n, (way, of) in enumerate(wrapped) if of != n or "w_" not in way
    ]
    own = [f"int u{n}(int n) {{ return {call(way, of)}; }}\n" for n, (way, of) in enumerate(used)]
    files = {f"{n}.c": text for n, text in enumerate(own)} | {PRIVATE: macros + "".join(order)}
    case = Case(header(set()), header(changed), files, "")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        check_others(root, case, found(root, case))
