# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which changes a file makes no use of. If this breaks, a file that a header's fix reaches keeps the fault.

Whatever is called unused is compiled here, too: the object files have to be the same.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils.build import unused
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

# As the kernel's macro of that name has it.
INLINE = "static inline __attribute__((__gnu_inline__)) __attribute__((__unused__)) __attribute__((__aligned__(16)))"
FILE = """
struct sock {{ int a; }};
typedef int (*action)(struct sock *);
{header}
int called(struct sock *sk);
static const char text[] = "a brace {{ and a call of quoted(";
int user(struct sock *sk)
{{
    return called(sk) + text[sk->a] + '}}' + ';';
}}
{more}
"""

LONE = f"{INLINE} int lone(struct sock *sk)\n{{\n\tif (sk) {{ return %d; }}\n\treturn 0;\n}}"
BY_WAY = f"{LONE}\n{INLINE} int by_way(struct sock *sk) {{ return lone(sk); }}"
USER = "int other(struct sock *sk) { return %s(sk); }"
STATE = "struct state { int a; struct { %s b; } c; };"


def edited(text: str, old: object, new: object, more: str = "") -> tuple[str, str, str]:
    """*text* with *old* in it, and then with *new*."""
    return text % old, text % new, more


def said_within(declaration: str) -> tuple[str, str, str]:
    """What a body that nobody calls says of a function that somebody calls."""
    before = "int out(void);"
    return before, f"{before}\n{INLINE} int f(void) {{ {declaration} return 1; }}", "int g(void) { return out(); }"


NOT_USED = {
    "a function": edited(LONE, 1, 2),
    "one that is new": ("", LONE % 1, ""),
    "one that is gone": (LONE % 1, "", ""),
    "by way of another": edited(BY_WAY, 1, 2),
    "each of two by the other": (f"{INLINE} int one(int a);\n{BY_WAY % 1}", BY_WAY % 2, ""),
    "a prototype": ("", "int *fresh(int (*callback)(struct sock *sk), unsigned long value[]);", ""),
    "a prototype in another way": ("extern int f(int);", "extern int f(long) __attribute__((__cold__));", ""),
    "a struct": edited(STATE, "int", "long"),
    "a struct and who uses it": (STATE % "int", f"{STATE % 'long'}\nlong state_of(struct state *state);", ""),
    "an enum": ("enum e { A, B = sizeof(int) };", "enum e { A, C, B = sizeof(long) };", ""),
    "a struct without its members": ("", "struct elsewhere;", ""),
    "a variable that is elsewhere": ("", "extern struct sock *elsewhere[sizeof(int)][2];", ""),
    "a function with what is its own": (
        f'{INLINE} int lone(void) {{ static int v __attribute__((__section__(".data.once"))); return v; }}',
        f"{INLINE} int lone(void) {{ struct {{ int x __attribute__((packed)); }} s = {{ 1 }}; return s.x; }}",
        "",
    ),
    "a function with an assertion": (
        LONE % 1,
        f"{INLINE} int lone(void) {{ __attribute__((noreturn)) extern void __compiletime_assert_1(void) "
        '__attribute__((error("a = (b)"))); return 1; }',
        "",
    ),
    "a type's name": edited("typedef %snumber;", "int ", "long *"),
    "white space": (LONE % 1, f"{LONE % 1}\n\n", ""),
    "in two places": edited(LONE, 1, 2, f"{INLINE} int late(void) {{ return 1; }}"),
}
USED = {
    "a function": edited(LONE, 1, 2, USER % "lone"),
    "by way of another": edited(BY_WAY, 1, 2, USER % "by_way"),
    "its address": edited(LONE, 1, 2, "action table[] = { lone };"),
    "in assembly": edited(LONE, 1, 2, 'asm(".globl lone");'),
    "a struct": edited(STATE, "int", "long", "int size(void) { return sizeof(struct state); }"),
    "a struct in another": edited(STATE, "int", "long", "struct outer { struct state s; } outer;"),
    "the second of two": edited(STATE, "int", "long", "extern struct state s[], t[]; int f(void) { return t[1].a; }"),
    "the struct that is aligned and within": edited(
        "struct out { struct __attribute__((__aligned__((1 << (6))))) in { %s; } in; };",
        "int a",
        "long a[99]",
        "int size(void) { return sizeof(struct in); }",
    ),
    "the struct that is within": edited("struct out { struct in { %s a; } in; };", "int", "long", "struct in in;"),
    # From here on: nobody refers to it, and it is in the object file.
    "a function of its own": ("", "int whole(void) { return 1; }", ""),
    "a static one": edited("static int f(void) { return %d; }", 1, 2, "int g(void) { return f(); }"),
    "a variable": ("", "int variable;", ""),
    "an array as big as something": edited("int array[sizeof(%s)];", "int", "long"),
    "a pointer to functions": ("", "int (*pointer)(struct sock *sk);", ""),
    "two names at once": ("", "int first(int), second;", ""),
    "a variable that is extern and here": ("", "extern int here;\nint here = 1;", ""),
    "an extern variable with a value": ("", "extern int here = 1;", ""),
    "its own variable": ("", f"{INLINE} void f(void) {{ static int v __attribute__((__used__)) = 1; }}", ""),
    "an alias": ("", 'extern int again(struct sock *) __attribute__((alias("user")));', ""),
    "assembly": ("", 'asm(".globl here; here:");', ""),
    "a register": edited('register long sp asm("%s");', "rsp", "rbp", "long f(void) { return sp; }"),
    "a constant": edited("enum { %s, B };", "A", "A = 7", "int f(void) { return B; }"),
    "a constant in a struct": edited("struct s { enum { %s } e; };", "A, B", "B, A", "int a = A;"),
    "a type's other name": edited("typedef %s number;", "int", "long", "number n;"),
    "what a function returns": edited("extern typeof(%s) f(int);", "1", "1L", "long g(void) { return f(1); }"),
    "one of two counted ones": edited(
        "int g(int n) { int __UNIQUE_ID_x1 = n, __UNIQUE_ID_x2 = 2; return __UNIQUE_ID_x%d; }", 1, 2
    ),
    "one that is counted and one that is not": edited(
        "int g(int n) { int __UNIQUE_ID_x1 = n, __UNIQUE_ID_x = 2; return __UNIQUE_ID_x%s; }", "1", ""
    ),
    "a counted one": (
        "",
        "extern int __UNIQUE_ID_f2(int) __attribute__((weak));",
        "int g(void) { return __UNIQUE_ID_f2(1); }",
    ),
    "the order of variables": ("int one; int two;", "int two; int one;", ""),
    "a struct with a variable": ("", "struct fresh { int a; } variable = { 1 };", ""),
    "a struct with a variable that is zero": ("", "struct fresh { int a; } variable;", ""),
    "a struct's value": ("", "struct sock value = (struct sock) { 1 };", ""),
    "an attribute of many levels": (
        "",
        f"{INLINE} __attribute__((aligned(((((16))))))) int f(void) {{ return 1; }}",
        "",
    ),
    "what a body says of another function": said_within("extern int out(void) __attribute__((weak));"),
    "what a body says of one without extern": said_within("int out(void) __attribute__((cold));"),
    "what a body says of one that does not return": said_within("_Noreturn int out(void);"),
    "what a body says of another's name": said_within('int out(void) asm("other");'),
    "a pragma in a body": (
        "",
        f"{INLINE} int f(void) {{\n#pragma pack(1)\nreturn 1; }}",
        "struct p { char c; int i; } p;",
    ),
    "a variable in parentheses": ("", "unsigned long (variable);", ""),
    "a pointer in parentheses": ("", "struct sock (*pointer);", ""),
    "an array of a type's other name": ("typedef int n; typedef long m;", "n (array[4]);", ""),
    "two arrays": edited("extern %s a[], b[];", "int", "char", "int f(void) { return b[1]; }"),
    "a variable with an attribute": ("", "int x __attribute((aligned(8)));", ""),
    "a copy of an attribute": (
        "",
        f"static int k(void) __attribute__((used));\n{INLINE} __attribute__((copy(k))) int f(void) {{ return 1; }}",
        "",
    ),
    "an inline function that is static in a parameter": ("", "extern inline int f(int a[static 1]) { return *a; }", ""),
    "a function in parentheses": ("", "inline int (f(int x)) { return 1; }", ""),
    "a function that returns a struct": edited("struct s { int a; } (*f(void))[3] { return %s; } ;", "0", "(void *)8"),
    "a pragma": ("", f"#pragma pack(1)\n{INLINE} int f(void) {{ return 1; }}", "struct p { char c; int i; } p;"),
}


def texts(before: str, after: str, more: str) -> tuple[str, str]:
    return FILE.format(header=before, more=more), FILE.format(header=after, more=more)


def either_way(*sides: str) -> list[bool]:
    return [unused.differ_in_unused(one, other) for one, other in (sides, sides[::-1])]


def compiled(folder: Path, text: str) -> bytes:
    (folder / "demo.c").write_text(text, encoding="ascii")
    subprocess.run(["gcc", "-O2", "-w", "-ffreestanding", "-c", "demo.c"], cwd=folder, check=True)
    return (folder / "demo.o").read_bytes()


@pytest.mark.parametrize("change", NOT_USED.values(), ids=NOT_USED)
def test_what_nobody_uses(tmp_path: Path, change: tuple[str, str, str]) -> None:
    before, after = texts(*change)
    assert either_way(before, after) == [True, True]
    assert compiled(tmp_path, before) == compiled(tmp_path, after)


COUNTING = f"""
#define paste_(a, b) a##b
#define paste(a, b) paste_(a, b)
#define twice_(a, x) ({{{{ int x = (a); x + x; }}}})
#define twice(a) twice_(a, paste(__UNIQUE_ID_x, __COUNTER__))
{INLINE} int lone(int a) {{{{ return {{counted}}; }}}}
int sum(int a) {{{{ return twice(a) - twice(a - 1); }}}}
#define initcall_(name) asm("# " #name);
#define initcall(name) initcall_(name)
initcall(paste(__initcall__kmod_demo__, paste(__COUNTER__, _1299_sum6)))
"""


def test_one_count_more_makes_all_later_names_others(tmp_path: Path) -> None:
    def preprocessed(counted: str) -> str:
        source = COUNTING.format(counted=counted)
        command = ["gcc", "-E", "-P", "-xc", "-"]
        return subprocess.run(command, input=source, capture_output=True, text=True, check=True).stdout

    before, after = preprocessed("a"), preprocessed("twice(a)")
    assert before.partition("int sum")[2] != after.partition("int sum")[2]
    assert unused.differ_in_unused(before, after)
    assert compiled(tmp_path, before) == compiled(tmp_path, after)


@pytest.mark.parametrize("change", USED.values(), ids=USED)
def test_what_counts_as_used(change: tuple[str, str, str]) -> None:
    before, after = texts(*change)
    assert either_way(before, after) == [False, False]


@pytest.mark.parametrize("text", ["int f(void) { return 1;", "int f(void) { return 1; } }"])
def test_what_is_no_whole_file(text: str) -> None:
    assert not unused.differ_in_unused(f"int x;\n{text}", f"{LONE % 1}\nint x;\n{text}")


def test_declarations_end_where_c_has_them_end() -> None:
    text = 'struct a { int x; } y = { 1 };\nint f(void) { return \'}\'; } int g(void) { return "}\\"{"[0]; };\nint h;'
    found = unused.declarations(text)
    assert found is not None
    assert [each.text for each in found] == [
        "struct a { int x; } y = { 1 };",
        "int f(void) { return '}'; }",
        'int g(void) { return "}\\"{"[0]; }',
        ";",
        "int h;",
        "",
    ]


HEADS = (f"{INLINE} int", f"{INLINE} int", "int", "static int", f"{INLINE} __attribute__((__used__)) int")
# Of each function what it is, and which functions it calls.
FUNCTIONS = st.lists(st.tuples(st.sampled_from(HEADS), st.sets(st.integers(0, 4), max_size=1)), min_size=5, max_size=5)


def program(functions: list[tuple[str, set[int]]], changed: set[int]) -> str:
    lines = [f"{head} f{number}(int n);" for number, (head, _calls) in enumerate(functions)]
    for number, (head, calls) in enumerate(functions):
        value = " + ".join(["n", *(f"f{call}(n - 1)" for call in calls), *("7" * len(changed & {number}))])
        lines.append(f"{head} f{number}(int n) {{ return n > 0 ? {value} : 0; }}")
    return "\n".join([*lines, ""])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(functions=FUNCTIONS, changed=st.sets(st.integers(0, 4), min_size=1, max_size=2))
def test_no_change_that_the_compiler_sees_is_unused(
    tmp_path: Path, functions: list[tuple[str, set[int]]], changed: set[int]
) -> None:
    """Functions that call one another, of which some change."""
    before, after = program(functions, set()), program(functions, changed)
    if unused.differ_in_unused(before, after):
        assert compiled(tmp_path, before) == compiled(tmp_path, after)
