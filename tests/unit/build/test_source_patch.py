# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The source patch. If this breaks, the wrong lines are changed, or a diff leads out of the kernel's source."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils.build import source_patch
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import Refusal, RefusedError

ORIGINAL = "".join(f"line {number};\n" for number in range(1, 21))
DIFF = """A word about it.

diff --git a/fs/some.c b/fs/some.c
--- a/fs/some.c\t2026-01-01
+++ b/fs/some.c
@@ -4,4 +4,5 @@ context
 line 4;
-line 5;
+line five;
+line five and a half;
 line 6;
 line 7;
@@ -15,3 +16,3 @@
 line 15;
-line 16;
+line sixteen;
 line 17;
"""


def applied(tmp_path: Path, diff: str, original: str = ORIGINAL) -> str:
    (tmp_path / "fs").mkdir()
    (tmp_path / "fs/some.c").write_text(original)
    (patch,) = source_patch.parse(diff)
    text = source_patch.apply(patch, tmp_path).text
    assert text is not None
    return text


def refused(diff: str) -> list[Refusal]:
    with pytest.raises(RefusedError) as error:
        source_patch.parse(diff)
    return error.value.refusals


def test_changed_lines_are_in_place_and_the_lines_after_keep_their_numbers(tmp_path: Path) -> None:
    lines = applied(tmp_path, DIFF).splitlines()
    at = lines.index("line five;")
    assert lines[at - 1 : at + 4] == ["line 4;", "line five;", "line five and a half;", "#line 6", "line 6;"]
    at = lines.index("line sixteen;")
    assert lines[at - 1] == "line 15;"
    assert lines[at + 1 : at + 3] == ["#line 17", "line 17;"]


def test_moved_context_is_found(tmp_path: Path) -> None:
    lines = applied(tmp_path, DIFF, "new\nnew\n" + ORIGINAL).splitlines()
    assert lines[lines.index("line five and a half;") + 1] == "#line 8"


@pytest.mark.parametrize(
    ("original", "forbidden_after"),
    [
        ("a;\nb;\n/* c\n * d\n */\ne;\n", {"/* c"}),
        ("a;\nb;\n#define C \\\n\td \\\n\te\nf;\n", {"#define C \\", "\td \\"}),
        ("a;\nb;\nMACRO(c,\n\td,\n\te);\nf;\n", {"MACRO(c,", "\td,"}),
    ],
    ids=["comment", "continued line", "macro's arguments"],
)
def test_line_directive_stands_where_the_compiler_takes_it(
    tmp_path: Path, original: str, forbidden_after: set[str]
) -> None:
    first = original.splitlines()[2]
    diff = f"--- a/fs/some.c\n+++ b/fs/some.c\n@@ -3,1 +3,2 @@\n-{first}\n+{first}\n+{{x}}\n".replace(
        "+{x}\n", ""
    ).replace("+3,2", "+3,1")
    lines = applied(tmp_path, diff, original).splitlines()
    directive = next(line for line in lines if line.startswith("#line"))
    at = lines.index(directive)
    assert lines[at - 1] not in forbidden_after
    assert original.splitlines()[int(directive.split()[1]) - 1] == lines[at + 1]


def test_hunk_that_does_not_fit_is_named(tmp_path: Path) -> None:
    with pytest.raises(RefusedError) as error:
        applied(tmp_path, DIFF, ORIGINAL.replace("line 17;", "line XVII;"))
    (refusal,) = error.value.refusals
    assert refusal.file == "fs/some.c"
    assert refusal.function.startswith("hunk 2 ")
    assert "does not apply" in refusal.reason


def test_a_hunk_at_other_lines_is_told_and_refused_if_strict(tmp_path: Path) -> None:
    (tmp_path / "fs").mkdir()
    (tmp_path / "fs/some.c").write_text(ORIGINAL.replace("line 10;\n", "line 10;\nnew;\nnew;\n"))
    (patch,) = source_patch.parse(DIFF)
    (moved,) = source_patch.apply(patch, tmp_path).moved
    assert str(moved) == "fs/some.c: hunk 2 (@@ -15,3 +16,3 @@) applies at line 17, not at line 15"
    with pytest.raises(RefusedError, match="applies at line 17, not at line 15, and the patch is asked for as strict"):
        source_patch.apply(patch, tmp_path, strict=True)


def test_a_hunk_at_its_own_lines_is_nothing_to_tell(tmp_path: Path) -> None:
    (tmp_path / "fs").mkdir()
    (tmp_path / "fs/some.c").write_text(ORIGINAL)
    (patch,) = source_patch.parse(DIFF)
    assert source_patch.apply(patch, tmp_path, strict=True).moved == ()


def test_there_is_no_fuzz(tmp_path: Path) -> None:
    with pytest.raises(RefusedError):
        applied(tmp_path, DIFF, ORIGINAL.replace("line 7;", "line  7;"))


def test_missing_file_is_named(tmp_path: Path) -> None:
    (patch,) = source_patch.parse(DIFF)
    with pytest.raises(RefusedError, match=r"fs/some\.c: .*no such file"):
        source_patch.apply(patch, tmp_path)


@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd.c", "a/../../x.c", "/etc/x.c", "a//x.c", "x.c", "a/x y.c", "a/$(id).c", "a/./x.c"],
)
def test_names_that_lead_elsewhere_are_refused(name: str) -> None:
    (refusal,) = refused(DIFF.replace("a/fs/some.c", name).replace("b/fs/some.c", name))
    assert "name" in refusal.reason


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("arch/x86/entry/entry_64.S", "assembly"),
        ("fs/Makefile", "configuration"),
        ("fs/Kconfig", "configuration"),
        ("Documentation/some.rst", "only C source"),
        ("arch/x86/boot/main.c", "boot code"),
        ("arch/x86/entry/vdso/vma.c", "vDSO"),
        ("scripts/mod/modpost.c", "build"),
    ],
)
def test_other_than_c_files_are_refused_by_name(path: str, reason: str) -> None:
    (refusal,) = refused(DIFF.replace("fs/some.c", path))
    assert refusal.file == path
    assert reason in refusal.reason


NEW = "--- /dev/null\n+++ b/fs/new.c\n@@ -0,0 +1,2 @@\n+x\n+y\n"
OLD = "--- a/fs/old.c\n+++ /dev/null\n@@ -1,2 +0,0 @@\n-x\n-y\n"


def test_new_and_removed_files(tmp_path: Path) -> None:
    (tmp_path / "fs").mkdir()
    (tmp_path / "fs/old.c").write_text("x\ny\n")
    new, old = source_patch.parse(NEW + OLD)
    assert (new.path, new.added, new.removed) == ("fs/new.c", True, False)
    assert (old.path, old.added, old.removed) == ("fs/old.c", False, True)
    assert source_patch.apply(new, tmp_path) == ("x\ny\n", ())
    assert source_patch.apply(old, tmp_path).text is None


def test_a_new_file_must_be_new_and_a_removed_one_removed_whole(tmp_path: Path) -> None:
    (tmp_path / "fs").mkdir()
    (tmp_path / "fs/old.c").write_text("x\ny\nz\n")
    (tmp_path / "fs/new.c").write_text("")
    new, old = source_patch.parse(NEW + OLD)
    with pytest.raises(RefusedError, match="has it"):
        source_patch.apply(new, tmp_path)
    with pytest.raises(RefusedError, match="not all of its lines"):
        source_patch.apply(old, tmp_path)


@pytest.mark.parametrize(("line", "accepted"), [("obj-y += new.o", True), ("ccflags-y += -DX", False)])
def test_a_makefile_may_list_the_new_file_and_no_more(line: str, accepted: bool) -> None:
    makefile = f"--- a/fs/Makefile\n+++ b/fs/Makefile\n@@ -1 +1,2 @@\n obj-y += some.o\n+{line}\n"
    if accepted:
        assert [patch.path for patch in source_patch.parse(NEW + makefile)] == ["fs/new.c"]
    else:
        assert [refusal.file for refusal in refused(NEW + makefile)] == ["fs/Makefile"]


def test_a_hunk_that_fits_in_two_other_places_is_refused(tmp_path: Path) -> None:
    diff = "--- a/fs/some.c\n+++ b/fs/some.c\n@@ -9,2 +9,2 @@\n }\n-x;\n+y;\n"
    with pytest.raises(RefusedError, match=r"fits in 2 places, but not at line 9: lines 2, 5"):
        applied(tmp_path, diff, "a;\n}\nx;\nb;\n}\nx;\n")


def test_a_diff_with_carriage_returns_is_refused() -> None:
    (refusal,) = refused(DIFF.replace("\n", "\r\n"))
    assert "CR LF" in refusal.reason


def test_everything_is_refused_at_once() -> None:
    boot = DIFF.replace("fs/some.c", "arch/x86/boot/some.c")
    assembly = DIFF.replace("fs/some.c", "lib/some.S")
    assert {refusal.file for refusal in refused(DIFF + boot + assembly)} == {"arch/x86/boot/some.c", "lib/some.S"}


@pytest.mark.parametrize("diff", ["", "no diff\n", "diff --git a/x.c b/x.c\nindex 1..2\n"])
def test_empty_diff_is_refused(diff: str) -> None:
    (refusal,) = refused(diff)
    assert "no change" in refusal.reason


def test_diff_that_was_cut_off_is_refused() -> None:
    (refusal, *_others) = refused(DIFF[: DIFF.index(" line 6;")])
    assert refusal.function.startswith("hunk 1 ")


def test_no_newline_at_the_end(tmp_path: Path) -> None:
    diff = "--- a/fs/some.c\n+++ b/fs/some.c\n@@ -1,2 +1,2 @@\n a;\n-b;\n\\ No newline at end of file\n+c;\n"
    assert applied(tmp_path, diff, "a;\nb;") == "a;\nc;\n"
