# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command objdiff: what a patch author's scripts rely on."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils.build import objdiff
from object_files import Pair

BEFORE = """
static int state = 3;
static noinline int gone(int x) { return hidden("gone", x) + state; }
int first(int x) { return gone(x) * 3; }
"""
AFTER = """
static int state = 3;
static int fresh = 4;
static noinline int extra(int x) { fresh += x; return hidden("extra", fresh) + state; }
int first(int x) { return extra(x) * 3; }
"""


def answer(pair: Pair, capsys: pytest.CaptureFixture[str], before: str, after: str) -> tuple[int, dict[str, Any]]:
    files = [str(pair.compile("original", before)), str(pair.compile("patched", after))]
    code = objdiff.main([*files, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_the_same(pair: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = answer(pair, capsys, BEFORE, "\n\n" + BEFORE)
    assert (code, said["result"]) == (0, "same")
    assert not said["functions"] + said["data"] + said["refusals"]


def test_each_difference_has_its_reason(pair: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = answer(pair, capsys, BEFORE, AFTER)
    assert (code, said["result"]) == (1, "differ")
    functions = {(each["change"], each["name"]) for each in said["functions"]}
    assert functions == {("changed", "first"), ("new", "extra"), ("removed", "gone")}
    assert [(each["change"], each["name"]) for each in said["data"]] == [("new", "fresh")]
    assert all(each["reason"] for each in said["functions"] + said["data"])


def test_what_is_refused_is_listed_as_changed_too(pair: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    before = BEFORE + "int table = 1; int notrace fast(int x) { return x; }"
    after = BEFORE + "int table = 2; int notrace fast(int x) { return -x; }"
    code, said = answer(pair, capsys, before, after)
    assert (code, said["result"]) == (2, "refused")
    assert {each["name"] for each in said["refusals"]} == {"fast", "table"}
    assert [each["name"] for each in said["functions"]] == ["fast"]
    assert [each["name"] for each in said["data"]] == ["table"]


def test_a_file_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.o").write_text("not an object")
    assert objdiff.main([str(tmp_path / "a.o"), str(tmp_path / "none.o")]) == 3
    assert "a.o: not a little-endian ELF64 file" in capsys.readouterr().err


def test_text_for_people(pair: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(pair.compile("original", BEFORE)), str(pair.compile("patched", AFTER))]
    assert objdiff.main(files) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("changed  function  first: ")
    assert said[-1] == "differ: functions to replace: 1; to bring along: 2"


def test_command_of_a_checkout(pair: Pair) -> None:
    script = Path(__file__).resolve().parents[3] / "scripts/objdiff"
    files = [str(pair.compile("original", BEFORE)), str(pair.compile("patched", AFTER))]
    done = subprocess.run([str(script), *files], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines()[-1].startswith("differ: ")
