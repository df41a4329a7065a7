# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What make corpus takes for one fix. If this breaks, the table calls fixes incomplete that are not, or too wide."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import changes
import grouping
import outcome
import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils.build import kbuild, makefiles, patch_module
from ansible_collections.kpatch.fleet.plugins.module_utils.build.artifact import Result
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import Refusal, RefusedError
from ansible_collections.kpatch.fleet.plugins.module_utils.build.source_patch import parse
from ansible_collections.kpatch.fleet.plugins.module_utils.build.tree import Tree

OLDER = {
    "include/types.h": "struct one { int a; };\n",
    "include/noise.h": "#define NOISE 1\n",
    "include/calls.h": '#include "types.h"\nint helper(struct one *);\n',
    "fs/local.h": "#define LOCAL 1\n",
    "fs/one.c": '#include "calls.h"\n#include "noise.h"\nint one(struct one *x) { return x->a; }\n',
    "fs/two.c": '#include "calls.h"\nint helper(struct one *x) { return x->a; }\n',
    "fs/three.c": '#include "calls.h"\nint three(struct one *x) { return helper(x); }\n',
}
NEWER = {
    **OLDER,
    "include/types.h": "struct one { int a, b; };\n",
    "include/noise.h": "#define NOISE 2\n",
    "include/calls.h": '#include "types.h"\nint helper(struct one *, int);\n',
    "include/fresh.h": "#define FRESH 1\n",
    "fs/local.h": "#define LOCAL 2\n",
    "fs/one.c": OLDER["fs/one.c"].replace("x->a", "x->a + x->b"),
    "fs/two.c": '#include "calls.h"\n#include "fresh.h"\nint helper(struct one *x, int y) { return x->a + FRESH; }\n',
    "fs/gone.c": "int gone;\n",
}
BUILT = {"fs/one.c": ["vmlinux"], "fs/two.c": ["vmlinux"], "fs/three.c": ["vmlinux"]}


class Case:
    """An update of a source of a few files, which gcc compiles."""

    def __init__(self, root: Path, older: Mapping[str, str], newer: Mapping[str, str]) -> None:
        for name, files in (("older", older), ("newer", newer)):
            for path, text in files.items():
                (root / name / path).parent.mkdir(parents=True, exist_ok=True)
                (root / name / path).write_text(text)
        (root / "source").symlink_to(root / "older")
        (root / "objects/include").mkdir(parents=True)
        self.tree = Tree(root, "6.1.0", "6.1.0-1", "00", "gcc", "6.1.0", "", "")
        self.update = changes.Update.between(root / "source", root / "newer")
        self.group = grouping.Grouping(self.tree, self.update)

    def units(self, _tree: Tree, built: Mapping[str, Collection[str]]) -> tuple[list[kbuild.Unit], list[Refusal]]:
        """As kbuild.units()."""
        source = self.tree.source
        flags = ("-Werror=implicit-function-declaration", f"-I{source}/include", "-c", "-o")
        names = [name for name in built if built[name]]
        return [kbuild.Unit(name, "vmlinux", ("gcc", *flags, "x.o", f"{source}/{name}"), ()) for name in names], []


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    monkeypatch.setattr(makefiles, "built", lambda *_: BUILT)
    made = Case(tmp_path, OLDER, NEWER)
    monkeypatch.setattr(kbuild, "units", made.units)
    return made


def counted(enough: Callable[[Collection[str]], bool]) -> tuple[Callable[[Collection[str]], bool], list[int]]:
    asked: list[int] = []

    def ask(chosen: Collection[str]) -> bool:
        asked.append(len(chosen))
        return enough(chosen)

    return ask, asked


@pytest.mark.parametrize("wanted", ["", "g", "ah", "abh", "abcdefgh"])
def test_the_smallest_part_is_found(wanted: str) -> None:
    assert grouping.smallest("abcdefgh", lambda chosen: set(wanted) <= set(chosen)) == list(wanted)


def test_one_of_many_takes_few_questions() -> None:
    many = [str(number) for number in range(64)]
    ask, asked = counted(lambda chosen: "41" in chosen)
    assert grouping.smallest(many, ask) == ["41"]
    assert len(asked) <= 2 + 2 * 6 + 1


def test_what_no_header_mends_has_no_smallest_part() -> None:
    assert grouping.smallest("ab", lambda chosen: False) is None
    assert grouping.smallest("", lambda chosen: False) is None


def test_of_two_that_could_stand_in_for_each_other_the_first_stays() -> None:
    assert grouping.smallest("abcd", lambda chosen: "b" in chosen or "d" in chosen) == ["b"]


def test_what_is_found_is_enough_even_where_more_can_be_less() -> None:
    """One header without the other breaks what compiled before."""
    whole = [set("abcdef"), set("abc"), set("ace")]
    found = grouping.smallest("abcdef", lambda chosen: set(chosen) in whole)
    assert set(found or ()) in whole


def test_only_the_headers_that_a_file_lacks_come_with_it(case: Case) -> None:
    """It includes three that changed; fs/local.h, which changed too, it does not include."""
    assert case.group.headers("fs/one.c", {"fs/one.c"}) == ["include/types.h"]


def test_a_header_that_the_update_adds_is_one_of_them(case: Case) -> None:
    assert sorted(case.group.headers("fs/two.c", {"fs/two.c"})) == ["include/calls.h", "include/fresh.h"]


def test_a_file_that_compiles_lacks_nothing(case: Case) -> None:
    assert case.group.headers("fs/three.c", set()) == []


def refused(file: str, reason: str, name: str = "(whole file)") -> Refusal:
    return Refusal(file, name, reason)


BROKEN = "it does not compile: fs/one.c:3:1: error: …"
UNKNOWN = "the patch refers to it, but neither the kernel nor vmlinux has a symbol of this name, …"


def test_who_no_longer_compiles_brings_its_own_change(case: Case) -> None:
    files = {"fs/one.c", "include/types.h", "include/calls.h"}
    assert case.group.lacking(files, [refused("fs/two.c", BROKEN)]) == {"fs/two.c", "include/fresh.h"}


def test_who_no_longer_compiles_and_did_not_change_can_not_be_helped(case: Case) -> None:
    assert case.group.lacking({"fs/one.c", "include/calls.h"}, [refused("fs/three.c", BROKEN)]) == set()


def test_who_defines_a_symbol_comes_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The nearest of those that define it only now, and that the kernel is built of."""
    body = "\nstatic int own;\n\nint fresh(int x)\n{\n\treturn x;\n}\n\nlong fresh_table[3] = { 1 };\n"
    use = "int use;\n"
    older = {"fs/b.c": "", "net/a.c": body, "net/b.c": "", "net/c.c": "", "net/user.c": ""}
    newer = {"fs/b.c": body, "net/a.c": body + use, "net/b.c": body, "net/c.c": body, "net/user.c": use}
    monkeypatch.setattr(makefiles, "built", lambda *_: {path: ["vmlinux"] for path in older if path != "net/b.c"})
    group = Case(tmp_path, older, newer).group
    for name, found in (("fresh", {"net/c.c"}), ("fresh_table", {"net/c.c"}), ("nowhere", set())):
        assert group.lacking({"net/user.c"}, [refused("net/user.c", UNKNOWN, name)]) == found


@pytest.mark.parametrize(
    ("text", "there"),
    [
        ("int foo(int x)\n{\n\treturn x;\n}\n", True),
        ("int foo(int x);\n", False),
        ("extern int foo;\n", False),
        ("static struct one *foo;\n", True),
        ("int bar(void)\n{\n\treturn foo;\n}\n", False),
        ("\nint *foo[2] = {\n", True),
    ],
)
def test_what_is_a_definition(text: str, there: bool) -> None:
    assert grouping.defines(text, "foo") == there


def test_a_group_is_one_diff_that_the_builder_reads(case: Case) -> None:
    files = {file.path: file for file in parse(case.update.diff({"fs/one.c", "include/fresh.h", "include/types.h"}))}
    assert sorted(files) == ["fs/one.c", "include/fresh.h", "include/types.h"]
    assert files["include/fresh.h"].added
    assert not files["include/types.h"].added


def test_a_last_line_without_an_end_is_told(tmp_path: Path) -> None:
    update = Case(tmp_path, {"fs/a.h": "one\ntwo"}, {"fs/a.h": "one\n2\n"}).update
    (file,) = parse(update.diff(["fs/a.h"]))
    assert file.hunks[0].old == ["one\n", "two"]


def test_what_changed(case: Case) -> None:
    assert case.update.changed == {path for path in NEWER if NEWER[path] != OLDER.get(path)}
    assert changes.c_files(case.tree, case.update) == (["fs/one.c", "fs/two.c"], 0)


@pytest.mark.parametrize("count", [1, 2, 5, 64])
def test_a_longer_sample_holds_a_shorter_one_and_both_are_spread(count: int) -> None:
    found = [f"{number:02}" for number in range(count)]
    order = changes.spread(found)
    assert sorted(order) == found
    assert order[0] == found[0]
    assert order[1:2] >= found[count // 2 :][:1] or count == 1


class Builder:
    """In the builder's place: refuses until a patch has all that it says."""

    def __init__(self, *steps: tuple[set[str], Refusal]) -> None:
        self.steps = steps
        self.asked: list[frozenset[str]] = []

    def __call__(self, files: frozenset[str]) -> Result:
        self.asked.append(files)
        left = [refusal for lacked, refusal in self.steps if not lacked <= files]
        if left:
            raise RefusedError(left)
        return Result(True, {"functions": [{}], "file": "fix.ko"}, Path("/store"))


def test_a_patch_grows_until_it_is_whole(case: Case) -> None:
    """Its header breaks a neighbour, which then needs one of its own."""
    builder = Builder(
        ({"include/types.h"}, refused("fs/one.c", BROKEN)),
        ({"fs/two.c", "include/fresh.h"}, refused("fs/two.c", BROKEN)),
    )
    made = outcome.find_out("fs/one.c", case.group, builder, 100)
    assert made.result == outcome.BUILT
    assert made.files == ["fs/two.c", "include/calls.h", "include/fresh.h", "include/types.h"]
    assert made.module == "/store/fix.ko"
    assert builder.asked[0] == {"fs/one.c"}


def test_what_nothing_of_the_update_mends_is_incomplete(case: Case) -> None:
    builder = Builder(({"no/such.c"}, refused("fs/three.c", BROKEN)))
    made = outcome.find_out("fs/one.c", case.group, builder, 100)
    assert (made.result, made.files) == (outcome.INCOMPLETE, [])
    assert made.reasons == [f"fs/three.c: (whole file): {BROKEN}"]


def test_a_header_that_too_many_may_use_is_not_tried(case: Case) -> None:
    builder = Builder(({"include/types.h"}, refused("fs/one.c", BROKEN)))
    made = outcome.find_out("fs/one.c", case.group, builder, 2)
    assert made.result == outcome.WIDE
    assert "include/types.h, and 3 C files may use" in made.reasons[0]
    assert builder.asked == [{"fs/one.c"}]


def test_a_refusal_with_another_reason_stays_one(case: Case) -> None:
    builder = Builder(({"no/such.c"}, refused("fs/one.c", "it is __init code")))
    assert outcome.find_out("fs/one.c", case.group, builder, 100).result == outcome.REFUSED
    builder = Builder(({"no/such.c"}, refused("(whole diff)", patch_module.NO_EFFECT)))
    assert outcome.find_out("fs/one.c", case.group, builder, 100).result == outcome.UNCHANGED


def test_an_outcome_is_kept_for_this_builder_and_this_bound(tmp_path: Path) -> None:
    made = outcome.Outcome("fs/one.c", outcome.BUILT, ["include/types.h"], functions=2)
    outcome.Shelf(tmp_path, 100).keep(made)
    assert outcome.Shelf(tmp_path, 100).find("fs/one.c") == made
    assert outcome.Shelf(tmp_path, 100).find("fs/two.c") is None
    assert outcome.Shelf(tmp_path, 200).find("fs/one.c") is None
