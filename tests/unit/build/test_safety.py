# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The backend and the safety report. If this breaks, a patch switches in another way than asked for, or a changed type
goes unnoticed.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils.build import backend, layouts, safety
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import (
    Added,
    BuildError,
    EmittedFunction,
    EmittedHook,
    EmittedObject,
    ObjectContext,
    ObjectDiff,
)
from ansible_collections.kpatch.fleet.plugins.module_utils.build.source_patch import Moved
from ansible_collections.kpatch.fleet.plugins.module_utils.build.symtab import SymbolTable

THREAD = {"leave": "patched_set", "switch": "thread"}
KERNEL = {"leave": "patched_set", "switch": "kernel"}
CONFIG = {"CONFIG_LIVEPATCH": "y"}
MANIFEST = {"name": "some", "kernel": {"release": "6.1.0"}, "backend": "kpatch", "consistency": KERNEL}


@pytest.mark.parametrize(
    ("asked", "consistency", "config", "chosen", "why"),
    [
        ("auto", THREAD, CONFIG, "livepatch", "the kernel has it"),
        ("auto", KERNEL, CONFIG, "kpatch", "can't give leave patched_set, switch kernel"),
        ("auto", THREAD, {}, "kpatch", "without CONFIG_LIVEPATCH"),
        ("kpatch", THREAD, CONFIG, "kpatch", "asked for"),
        ("livepatch", THREAD, CONFIG, "livepatch", "asked for"),
    ],
)
def test_backend(asked: str, consistency: dict[str, str], config: dict[str, str], chosen: str, why: str) -> None:
    found = backend.choose(asked, consistency, config)
    assert found[0] == chosen
    assert why in found[1]


@pytest.mark.parametrize(("consistency", "config"), [(KERNEL, CONFIG), (THREAD, {})])
def test_livepatch_never_gives_less_than_asked_for(consistency: dict[str, str], config: dict[str, str]) -> None:
    with pytest.raises(BuildError, match="ask for backend kpatch"):
        backend.choose("livepatch", consistency, config)


def test_livepatch_can_not_force_one_function() -> None:
    found, why = backend.choose("auto", THREAD, CONFIG, ["some_function"])
    assert (found, why) == (
        "kpatch",
        "auto: the patch forces some_function, and livepatch can't force one function, only a whole transition",
    )
    with pytest.raises(BuildError, match="backend livepatch: the patch forces some_function, .*ask for backend kpatch"):
        backend.choose("livepatch", THREAD, CONFIG, ["some_function"])


def test_a_module_that_livepatch_can_not_patch_again_is_told() -> None:
    emitted = EmittedObject(referenced={"vmlinux", "8021q"})
    (limit,) = backend.limits("livepatch", emitted, False)
    assert (limit.name, limit.reason.partition(",")[0]) == ("8021q", "once it was unloaded")
    assert backend.limits("livepatch", emitted, True) == []
    emitted.hooks = [EmittedHook("8021q", "pre_patch", "may", "alias"), EmittedHook("vmlinux", "pre_patch", "x", "y")]
    (limit,) = backend.limits("livepatch", emitted, True)
    assert limit.reason.partition(",")[0] == "once its pre_patch hook refused it"
    (limit,) = backend.limits("livepatch", emitted, False)
    assert limit.reason.partition(",")[0] == "once it was unloaded or its pre_patch hook refused it"
    assert backend.limits("kpatch", emitted, False) == []
    text = safety.text(safety.report(MANIFEST, EmittedObject(), [], "it was asked for", (), [limit]))
    assert f"  8021q: {limit.reason}\n" in text


def test_types_are_compared_by_their_members() -> None:
    before = "struct a { int x; struct { int y; } in; }; enum e { A, B }; struct b { int z; };"
    after = "struct a {\n int x;\n struct { long y; } in; }; enum e { A, C, B }; struct b {  int  z; };\nstruct c { };"
    assert layouts.changed(before, after) == ["enum e", "struct a"]
    assert layouts.changed(before, before) == []
    assert layouts.definitions("struct cut { int x;") == {"struct cut": "int x;"}


def diff_of(*data: Added) -> ObjectDiff:
    context = ObjectContext("fs/some.c", "vmlinux", {}, SymbolTable(b"", [], []), SymbolTable(b"", [], []))
    return ObjectDiff(context, added_data=list(data), removed=["gone"])


def functions(count: int) -> EmittedObject:
    return EmittedObject(
        [EmittedFunction("vmlinux", f"f{n}", 0, f"alias{n}", "its code changed") for n in range(count)]
    )


def test_report_says_what_why_and_what_to_think_of() -> None:
    diff = diff_of(Added("vmlinux", "counter", "new static data"))
    diff.types = ["struct a"]
    found = safety.report(MANIFEST, functions(2), [diff], "it was asked for")
    assert [entry["name"] for entry in found["replaced"]] == ["f0", "f1"]
    assert {risk["kind"] for risk in found["risks"]} == {"data", "type"}
    assert "leave kernel, switch kernel" in found["consistency"]["suffices"]
    files = safety.files(found)
    assert json.loads(files["report.json"]) == found
    for words in ("f1: its code changed", "struct a", "gone", "Switches with leave patched_set, switch kernel"):
        assert words in files["report.txt"]


def test_what_has_run_and_stays_as_it_is_is_a_risk() -> None:
    diff = diff_of()
    diff.left = [Added("vmlinux", "setup", "it is __init code, which a running kernel has left behind")]
    (risk,) = safety.report(MANIFEST, functions(1), [diff], "")["risks"]
    assert (risk["where"], risk["kind"]) == ("setup", "left")
    assert risk["risk"].startswith("it is __init code, which a running kernel has left behind: it stays as it is; look")


def test_hunks_at_other_lines_are_told(tmp_path: Path) -> None:
    moved = Moved("fs/some.c", "hunk 1 (@@ -3 +3 @@)", 3, 5)
    found = safety.report(MANIFEST, functions(1), [diff_of()], "", [moved])
    assert safety.offsets(tmp_path) == []
    for name, text in safety.files(found).items():
        (tmp_path / name).write_text(text)
    assert safety.offsets(tmp_path) == ["fs/some.c: hunk 1 (@@ -3 +3 @@) applies at line 5, not at line 3"]
    assert "applies at line 5, not at line 3" in safety.text(found)


@pytest.mark.parametrize(("count", "words"), [(1, "leave function"), (2, "leave patched_set, switch thread")])
def test_what_suffices_without_changed_types(count: int, words: str) -> None:
    found = safety.report(MANIFEST, functions(count), [diff_of()], "")
    assert found["consistency"]["suffices"].startswith(words)
    assert "No risk was found" in safety.text(found)


def test_a_build_says_what_it_has_come_to_and_where_the_report_is(tmp_path: Path) -> None:
    functions = [{"name": f"f{number}"} for number in range(10)]
    manifest = {**MANIFEST, "file": "kpatch_some.ko", "functions": functions[:2]}
    assert safety.outcome(True, None, None) == "would be built"
    assert safety.outcome(True, manifest, safety.place(tmp_path)) == "was built: kpatch_some.ko, replaces f0, f1"
    (tmp_path / safety.TEXT_NAME).touch()
    told = safety.outcome(False, {**manifest, "functions": functions}, safety.place(tmp_path))
    assert told == (
        "is in the store: kpatch_some.ko, replaces f0, f1, f2, f3, f4, f5, f6, f7 and 2 more; "
        f"its safety report: {tmp_path}/report.txt"
    )
