# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Static branches on a key of the patched module. If this breaks, patched code takes the wrong branch, jumps into the
blue, or leaves a stack that nobody can read.
"""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils.build import elf, kbuild, overlay, static_branch
from ansible_collections.kpatch.fleet.plugins.module_utils.build import pair as pairs
from ansible_collections.kpatch.fleet.plugins.module_utils.build.diff import diff_objects
from ansible_collections.kpatch.fleet.plugins.module_utils.build.kbuild import Unit
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import EmittedReloc
from ansible_collections.kpatch.fleet.plugins.module_utils.build.tree import Tree
from object_files import Pair, kernel_tree, readelf

BRANCH = "int key[4]; int first(int x) { if (STATIC_BRANCH(KEY)) return 40; return x + 1; }"


def branch(key: str = "&key") -> str:
    return BRANCH.replace("KEY", key)


def lengths_of(path: Path) -> dict[str, int]:
    return {symbol.name: symbol.size for symbol in elf.read(path).symbols if symbol.type == elf.STT_FUNC}


def emitted(pair: Pair, before: str) -> tuple[EmittedReloc, Path]:
    """What the patch of a branch in a module comes to: the core module's relocation of the key, and the object."""
    diff = pair.diff(before, before.replace("x + 1", "x + 2"), "demo")
    assert diff.refusals == []
    assert diff.notes == []
    assert not diff.cramped
    found, path = pair.emit(diff)
    assert "__jump_table" not in readelf(path, "-S")
    (reloc,) = found.relocs
    assert (reloc.object, reloc.symbol) == ("demo", "key")
    return reloc, path


RUN = """
#include <sys/mman.h>
#include <string.h>
int key[4];
extern char __kpatch_place_0[];
extern int __kpatch_new_0_first(int);
void __fentry__(void) {}
int main(int count, char **values)
{
    int distance = (char *)key + ADDEND - __kpatch_place_0;

    if (mprotect((void *)((long)__kpatch_place_0 & ~4095L), 8192, PROT_READ | PROT_WRITE | PROT_EXEC))
        return 1;
    memcpy(__kpatch_place_0, &distance, 4);
    for (key[PLACE] = -1; key[PLACE] < 2; key[PLACE]++)
        if (__kpatch_new_0_first(3) != (INVERTED == !key[PLACE] ? 40 : 5))
            return 2;
    return 0;
}
"""


@pytest.mark.parametrize(
    ("key", "inverted", "place"),
    [("&key", 0, 0), ("(char *)&key + 1", 1, 0), ("(char *)&key[2] + 2", 0, 2)],
    ids=["while it is on", "while it is off", "in a struct, with a mark for objtool"],
)
def test_a_branch_on_a_key_of_the_module_goes_by_the_key(pair: Pair, key: str, inverted: int, place: int) -> None:
    """The patched function is linked into a program and called. A key that is just going on is -1."""
    reloc, path = emitted(pair, branch(key))
    main, program = pair.folder / "main.c", pair.folder / "program"
    main.write_text(RUN, encoding="utf-8")
    given = {"ADDEND": reloc.addend, "PLACE": place, "INVERTED": inverted}
    defines = [f"-D{name}={value}" for name, value in given.items()]
    subprocess.run(["gcc", "-static", "-no-pie", "-w", *defines, "-o", program, main, path], check=True)
    assert subprocess.run([program], check=False).returncode == 0


def test_whoever_is_in_the_test_is_in_the_function(pair: Pair) -> None:
    _reloc, path = emitted(pair, branch())
    (size,) = (line.split()[2] for line in readelf(path, "-s").splitlines() if line.endswith(" first"))
    (text,) = (line.split("]")[1].split() for line in readelf(path, "-S").splitlines() if "] .text " in line)
    assert int(size) == int(text[4], 16)


# One entry for each of: the function's begin, the branch behind the call of the tracer, its end.
ORC = """
asm(".pushsection .orc_unwind_ip,\\"a\\"\\n.long first - .\\n.long first + 5 - .\\n.long first + 6 - .\\n.popsection\\n"
    ".pushsection .orc_unwind,\\"a\\"\\n.ascii \\"-begin-there-later\\"\\n.popsection");
"""


def test_the_stack_in_the_test_is_that_at_the_branch(pair: Pair) -> None:
    _reloc, path = emitted(pair, branch() + ORC)
    parsed = elf.read(path)
    sections = {section.name: section for section in parsed.sections}
    assert sections[".orc_unwind"].data == b"-begin-there-later" + b"-there"
    last = sections[".orc_unwind_ip"].relocs[-1]
    (place,) = (symbol for symbol in parsed.symbols if symbol.name == "__kpatch_place_0")
    assert (last.offset, last.symbol.value + last.addend) == (12, place.value - 2)


def test_a_branch_without_room_is_refused(pair: Pair) -> None:
    before = branch().replace("STATIC_BRANCH", "SHORT_BRANCH")
    after = before.replace("x + 1", "x + 2")
    assert pair.diff(before, after).refusals == []
    diff = pair.diff(before, after, "demo")
    assert diff.cramped
    (refusal,) = diff.refusals
    assert refusal.function == "first"
    assert "it has a static branch whose key key is in the module demo" in refusal.reason
    assert "static_key_enabled()" in refusal.reason


def test_a_short_branch_gets_room(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is compiled once more, with the header that makes it long; what was shipped is as short as it was."""
    compiled: list[tuple[str, bool, str | None]] = []

    def compile_unit(
        _tree: Tree, _unit: Unit, out: Path, place: Path, sectioned: bool = False, before: str | None = None
    ) -> None:
        compiled.append((place.name, sectioned, before))
        text = branch() if before else branch().replace("STATIC_BRANCH", "SHORT_BRANCH")
        text = text.replace("x + 1", "x + 2") if place.name == "patched" else text
        out.write_bytes(pair.compile(f"{place.name}-{before}", text).read_bytes())

    monkeypatch.setattr(kbuild, "compile_unit", compile_unit)
    monkeypatch.setattr(kbuild, "preprocessed", lambda _tree, _unit, place: f"struct s {{ in_{place.name} x; }};")
    shipped = pair.compile("built", branch().replace("STATIC_BRANCH", "SHORT_BRANCH"))
    context, image = pair.context(shipped, module="demo"), pair.link("demo.ko", shipped, kernel=False)
    places = pair.folder / "plain", pair.folder / "patched"
    two = pairs.Pair(kernel_tree(pair.folder), *places, pair.folder, lambda _unit: context, lambda _name: image)
    diff, refusals = two.changed(Unit("net/demo/demo.c", "demo", (), ()))
    assert refusals == []
    assert diff is not None
    assert [function.name for function in diff.changed] == ["first"]
    assert diff.types == ["struct s"]
    assert diff.context.lengths == lengths_of(shipped)
    room = [(place, True, before) for before in (None, "room") for place in ("patched", "plain")]
    assert compiled == [*room, ("plain", False, None)]


def test_what_a_function_was_long_without_room_tells_which_one_it_is(pair: Pair) -> None:
    """What it had before does, of two functions of a name; now another one may happen to be as long."""
    helper = "static noinline int helper(int x) {{ return hidden({}); }}\nint {}(int x) {{ return helper(x) + 1; }}"
    before, other = helper.format('"here", x', "first"), helper.format('"there", x, x * 7', "second")
    original, patched = pair.compile("original", before), pair.compile("patched", before.replace("+ 1", "+ 2"))
    context = pair.context(original, pair.compile("other", other), module="demo")
    assert diff_objects(original, patched, context).refusals == []
    assert diff_objects(original, patched, replace(context, lengths=lengths_of(original))).refusals == []
    for unlike, fitting in (({}, 2), ({"helper": 1}, 0)):
        (refusal,) = diff_objects(original, patched, replace(context, lengths=unlike)).refusals
        assert f"there are 2 symbols named helper, and {fitting} of them could be this one" in refusal.reason


SHORT_OR_LONG = {
    "6.1": r'"jmp %l[l_yes] # objtool NOPs this \n\t"',
    "6.1, on by default": r'"jmp %l[l_yes]\n\t"',
    "7.2": r'"1: jmp " label " # objtool NOPs this \n\t"',
}


@pytest.mark.parametrize("text", SHORT_OR_LONG.values(), ids=SHORT_OR_LONG)
def test_room_is_made_by_the_header(tmp_path: Path, text: str) -> None:
    header = tmp_path / overlay.SOURCE / "arch/x86/include/asm/jump_label.h"
    header.parent.mkdir(parents=True)
    header.write_text(f"/* A jmp */ asm goto({text} : : : : l_yes);\n")
    static_branch.make_room(tmp_path)
    made = (tmp_path / static_branch.ROOM / "asm/jump_label.h").read_text()
    assert made == header.read_text().replace(text, text.replace("jmp ", "jmp.d32 "))


def test_a_long_jump_has_room(pair: Pair) -> None:
    path = pair.compile("long", 'asm(".text; jmp.d32 1f; 1: nop");')
    listing = subprocess.run(["objdump", "-d", path], capture_output=True, text=True, check=True).stdout
    assert "e9 00 00 00 00" in listing
