# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is written for the module loader. A wrong relocation jumps to nowhere in a running kernel."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils.build import elf as e
from ansible_collections.kpatch.fleet.plugins.module_utils.build.diff import diff_objects
from ansible_collections.kpatch.fleet.plugins.module_utils.build.elfwrite import write
from ansible_collections.kpatch.fleet.plugins.module_utils.build.emit import emit
from ansible_collections.kpatch.fleet.plugins.module_utils.build.finish import finish
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import (
    ElfError,
    ObjectContext,
    ObjectDiff,
    RefusedError,
)
from ansible_collections.kpatch.fleet.plugins.module_utils.build.symtab import read_symbols
from object_files import Pair, readelf

BEFORE = """
static int secret = 5;
void set(int x) { secret = x; }
static noinline int helper(int x) { return hidden("helper %d", x) + secret; }
int first(int x) { static int count; exported("first", count++); return helper(x) + secret; }
int (*user)(int) = first;
"""
AFTER = BEFORE.replace("int first", "static noinline int extra(int x) { return x ^ secret; }\nint first").replace(
    "helper(x) +", "helper(extra(x)) + hidden(0) +"
)


def relocations(text: str) -> dict[str, set[str]]:
    """Symbols by relocation section, from readelf -r."""
    found: dict[str, set[str]] = {}
    for line in text.splitlines():
        section = re.match(r"Relocation section '(\S+)'", line)
        if section:
            current = found.setdefault(section[1], set())
        fields = line.split()
        if len(fields) >= 5 and fields[2].startswith("R_X86_64"):
            current.add(fields[4])
    return found


def test_a_patch_of_vmlinux(pair: Pair) -> None:
    diff = pair.diff(BEFORE, AFTER)
    assert not diff.refusals
    emitted, path = pair.emit(diff)
    (function,) = emitted.functions
    assert (function.object, function.name, function.sympos) == ("vmlinux", "first", 0)
    assert emitted.exports == ["__fentry__", "exported"]
    assert not emitted.relocs
    assert [added.name for added in emitted.added] == ["extra"]
    symbols = relocations(readelf(path, "-r"))[".rela.text"]
    assert {".klp.sym.vmlinux.hidden,0", ".klp.sym.vmlinux.helper,0", ".klp.sym.vmlinux.secret,0"} < symbols
    assert any(name.startswith(".klp.sym.vmlinux.count.") for name in symbols)
    assert "extra" in symbols


def test_finished_relocations_are_livepatch_s(pair: Pair) -> None:
    """Documentation/livepatch/module-elf-format.rst, as readelf sees it."""
    _emitted, path = pair.finished(pair.diff(BEFORE, AFTER))
    found = relocations(readelf(path, "-r"))
    assert ".klp.sym.vmlinux.hidden,0" in found[".klp.rela.vmlinux.text"]
    assert all(name.startswith(".klp.sym.vmlinux.") for name in found[".klp.rela.vmlinux.text"])
    assert not any(name.startswith(".klp") for name in found[".rela.text"])
    sections = e.headers(path, memoryview(path.read_bytes()))
    (klp,) = [section for section in sections if section.name.startswith(".klp.rela")]
    assert klp.flags == e.SHF_ALLOC | e.SHF_INFO_LINK | 0x00100000
    assert sections[klp.info].name == ".text"
    symbols = readelf(path, "-s")
    assert len(re.findall(r"GLOBAL DEFAULT OS \[0xff20\] \.klp\.sym\.vmlinux\.", symbols)) >= 4
    assert not re.search(r"UND \.klp", symbols)


def test_the_glue_s_names_vanish_and_what_they_meant_stays(pair: Pair) -> None:
    later = "int later(int x) { return exported(0, x) + NUMBER; }"
    before, after = BEFORE + later.replace("NUMBER", "1"), AFTER + later.replace("NUMBER", "2")
    _emitted, path = pair.finished(pair.diff(before, after))
    assert "__kpatch_" not in readelf(path, "-s")
    elf = e.read(path)
    (table,) = [s for s in elf.sections if s.name.startswith((".rodata", ".data")) and s.relocs]
    meant = [(reloc.symbol.section, reloc.symbol.value + reloc.addend) for reloc in table.relocs]
    functions = {symbol.name: (symbol.section, symbol.value) for symbol in elf.symbols}
    assert meant == [functions["first"], functions["later"]]


def test_nothing_tells_which_files_it_was_linked_from(pair: Pair) -> None:
    """They are in a directory with a new name each time: the same inputs have to give the same bytes."""
    emitted, path = pair.finished(pair.diff(BEFORE, AFTER))
    assert emitted.functions
    assert " FILE " not in readelf(path, "-s")


def test_locals_come_first(pair: Pair) -> None:
    _emitted, path = pair.finished(pair.diff(BEFORE, AFTER))
    symtab = next(h for h in e.headers(path, memoryview(path.read_bytes())) if h.type == e.SHT_SYMTAB)
    binds = re.findall(r"^\s*\d+: .* (LOCAL|GLOBAL|WEAK) ", readelf(path, "-s"), re.MULTILINE)
    assert binds == sorted(binds, key=lambda bind: bind != "LOCAL")
    assert symtab.info == binds.count("LOCAL")


def test_finishing_twice_is_noticed(pair: Pair) -> None:
    _emitted, path = pair.finished(pair.diff(BEFORE, AFTER))
    elf = e.read(path)
    text = next(section for section in elf.sections if section.name == ".text")
    text.relocs += text.livepatch.pop(".klp.rela.vmlinux.text")
    write(elf, path)
    with pytest.raises(ElfError, match="finished before"):
        finish(path, path)


def test_a_patch_of_a_module(pair: Pair) -> None:
    """The core module resolves what is in modules, the module loader what is in vmlinux."""
    before = BEFORE.replace("return helper", "return other_module(x) + helper")
    diff = pair.diff(before, AFTER.replace("return helper", "return other_module(x) + helper"), "demo")
    assert not diff.refusals
    emitted, path = pair.finished(diff)
    assert emitted.functions[0].object == "demo"
    found = {(reloc.object, reloc.symbol) for reloc in emitted.relocs}
    assert {("demo", "helper"), ("demo", "secret"), ("neighbour", "other_module")} <= found
    symbols = relocations(readelf(path, "-r"))
    assert symbols[".klp.rela.vmlinux.text"] == {".klp.sym.vmlinux.hidden,0"}
    assert len({reloc.place for reloc in emitted.relocs}) == len(emitted.relocs)
    assert {reloc.type for reloc in emitted.relocs} <= {e.R_64, e.R_PC32, e.R_PLT32, e.R_32S}


def test_a_bug_entry_that_code_hands_over_comes_along(pair: Pair) -> None:
    """Code, table and message of the second function, which go elsewhere, still belong together."""
    before = "".join(f'int f{n}(int x) {{ if (x) exported(WARN_WITH("text {n}")); return 1; }}\n' for n in range(3))
    diff = pair.diff(before, before.replace("return 1", "return 2").replace("return 2", "return 1", 1))
    assert [function.name for function in diff.changed] == ["f1", "f2"]
    _emitted, path = pair.finished(diff)
    elf = e.read(path)
    table = next(section for section in elf.sections if section.name == "__bug_table")
    assert table.size == 2 * 16
    text = next(section for section in elf.sections if section.name == ".text")
    handed = [reloc.symbol.value + reloc.addend + 4 for reloc in text.relocs if reloc.symbol.section is table]
    assert sorted(handed) == [0, 16]


def test_the_address_of_a_changed_function_stays_the_original_s(pair: Pair) -> None:
    """It may be compared with one that was handed out before."""
    before = BEFORE + "int check(int (*f)(int)) { return f == first ? 1 : exported(0); }"
    after = before.replace("first ? 1", "first ? 2").replace("count++", "count--")
    _emitted, path = pair.emit(pair.diff(before, after))
    assert ".klp.sym.vmlinux.first,0" in relocations(readelf(path, "-r"))[".rela.text"]


def test_a_call_of_a_changed_function_is_to_the_new_one(pair: Pair) -> None:
    before = "noinline int first(int x) { return hidden(0, x); } int second(int x) { return first(x) + 1; }"
    after = before.replace("x); }", "x) * 2; }").replace("+ 1", "+ 2")
    _emitted, path = pair.emit(pair.diff(before, after))
    assert "first" in relocations(readelf(path, "-r"))[".rela.text"]


DOUBLE = "static noinline int same(int x) { return hidden(NAME, x); } int user_NUMBER(int x) { return same(x) + 1; }"


def test_repeated_calls_share_one_relocation(pair: Pair) -> None:
    """Each livepatch relocation costs a walk through all symbols of the kernel."""
    before = "int first(int x) { hidden(0, x); hidden(0, 1); return hidden(0, 2) + 1; }"
    _emitted, path = pair.finished(pair.diff(before, before.replace("+ 1", "+ 2")))
    elf = e.read(path)
    text = next(section for section in elf.sections if section.name == ".text")
    (jump,) = text.livepatch[".klp.rela.vmlinux.text"]
    assert text.data[jump.offset - 1] == 0xE9
    stub = next(symbol for symbol in elf.symbols if symbol.name == "kpatch_call.hidden")
    assert jump.offset == stub.value + 1
    calls = [reloc for reloc in text.relocs if reloc.symbol.value + reloc.addend + 4 == stub.value]
    assert len([reloc for reloc in calls if reloc.symbol.section is text]) == 3


def test_sympos_of_the_second_of_a_name(pair: Pair) -> None:
    """The object file's own local names tell its group from the others of that basename."""
    first = DOUBLE.replace("NAME", '"one"').replace("NUMBER", "1") + "static int only_one; int *p1 = &only_one;"
    second = DOUBLE.replace("NAME", '"two"').replace("NUMBER", "2") + "static int only_two; int *p2 = &only_two;"
    other = pair.compile("other", first)
    original, patched = pair.compile("original", second), pair.compile("patched", second.replace("two", "2"))
    diff = diff_objects(original, patched, pair.context(original, other))
    assert [(function.name, function.sympos) for function in diff.changed] == [("same", 2)]
    diff = diff_objects(other, pair.compile("patched", first.replace("one", "1")), pair.context(original, other))
    assert [(function.name, function.sympos) for function in diff.changed] == [("same", 1)]


def test_the_core_module_counts_addresses_and_livepatch_symbols(pair: Pair) -> None:
    """Lockdep's keys have no size without lockdep: the first of one object is where the last of the one before is."""
    key = "static struct { } key; int NAME(int x) { return exported((const char *)&key, x); }"
    before = key.replace("NAME", "first") + "static noinline int own(int x) { return hidden(0, x); }"
    before += "int second(int x) { return own(x) + own(1); }"
    original = pair.compile("original", before)
    patched = pair.compile("patched", before.replace("&key, x", "&key, x + 1"))
    other = pair.compile("other", key.replace("NAME", "another"))
    diff = diff_objects(original, patched, pair.context(original, other, module="demo"))
    emitted, _path = pair.emit(diff)
    assert {(reloc.symbol, reloc.sympos) for reloc in emitted.relocs} == {("key", 1)}
    emit([diff_objects(original, patched, diff.context)], pair.folder / "livepatch.o", livepatch=True)
    assert ".klp.sym.demo.key,2" in readelf(pair.folder / "livepatch.o", "-s")


def test_in_modules_livepatch_goes_by_the_symbol_table(pair: Pair) -> None:
    """The linker joins sections by name: the second object file has the first one's first section."""
    same = "{} static noinline int same(int x) {{ return hidden({}, x); }} int {}(int x) {{ return same(x) + 1; }}"
    early, late = (f'__attribute__((section(".text.{name}")))' for name in ("early", "late"))
    own = "static int only_{0}; int *p_{0} = &only_{0};"
    opened = r'asm(".section .text.early, \"ax\", @progbits\n.text");'
    first = opened + same.format(late, '"one"', "first") + own.format("one")
    second = same.format(early, '"two"', "second") + own.format("two")
    other, original = pair.compile("other", first), pair.compile("original", second)
    patched = pair.compile("patched", second.replace("two", "2"))
    diff = diff_objects(original, patched, pair.context(original, other, module="demo"))
    emitted, _path = pair.emit(diff)
    assert [(function.name, function.sympos) for function in emitted.functions] == [("same", 1)]
    emitted = emit([diff_objects(original, patched, diff.context)], pair.folder / "livepatch.o", livepatch=True)
    assert [(function.name, function.sympos) for function in emitted.functions] == [("same", 2)]


def test_sympos_without_file_symbols(pair: Pair) -> None:
    """Shipped modules have none: the neighbours in the symbol table tell."""
    more = "".join(f"static int l{number}_NAME; int *p{number}_NAME = &l{number}_NAME;" for number in range(5))
    units = [(more + UNIT).replace("NAME", name) for name in ("one", "two")]
    objects = [pair.compile(f"unit{number}", unit) for number, unit in enumerate(units)]
    between = pair.compile("between", (more + UNIT).replace("NAME", "between").replace("work", "labour"))
    vmlinux = pair.link("stripped", objects[0], between, objects[1])
    subprocess.run(["objcopy", "--strip-debug", vmlinux], check=True)
    assert "FILE" not in readelf(vmlinux, "-s")
    symbols = read_symbols(vmlinux)
    context = ObjectContext("kernel/demo.c", "vmlinux", pair.exports, symbols, symbols)
    for number, unit in enumerate(units):
        patched = pair.compile("patched", unit.replace("hidden(", "exported("))
        diff = diff_objects(objects[number], patched, context)
        assert [(function.name, function.sympos) for function in diff.changed] == [("work", number + 1)]


def test_sympos_that_nothing_tells_is_refused(pair: Pair) -> None:
    source = DOUBLE.replace("NAME", '"one"')
    other = pair.compile("other", source.replace("NUMBER", "1"))
    original = pair.compile("original", source.replace("NUMBER", "2"))
    patched = pair.compile("patched", source.replace("NUMBER", "2").replace("one", "1"))
    diff = diff_objects(original, patched, pair.context(original, other))
    (refusal,) = diff.refusals
    assert refusal.function == "same"
    assert "2 symbols named same" in refusal.reason


UNIT = """
static int only_NAME; int *p_NAME = &only_NAME;
static noinline int work(int x) { return hidden("NAME", x); }
int NAME(int x) { return work(x) + 1; }
"""


def test_two_files_in_one_object(pair: Pair) -> None:
    """Local names may be the same; what one file adds, the other may call."""
    one, two = UNIT.replace("NAME", "one"), UNIT.replace("NAME", "two")
    after_one = "int added(int);" + one.replace("+ 1", "+ added(x)").replace("hidden(", "exported(")
    after_two = "int added(int x) { return x; }" + two.replace("hidden(", "exported(")
    originals = [pair.compile("one", one), pair.compile("two", two)]
    patched = [pair.compile("patched_one", after_one), pair.compile("patched_two", after_two)]
    diffs = [
        diff_objects(originals[number], patched[number], pair.context(originals[1], originals[0]))
        for number in range(2)
    ]
    emitted, path = pair.finished(*diffs)
    assert [(function.name, function.sympos) for function in emitted.functions] == [
        ("work", 1),
        ("one", 0),
        ("work", 2),
    ]
    elf = e.read(path)
    works = [symbol for symbol in elf.symbols if symbol.name == "work"]
    assert len({symbol.value for symbol in works}) == 2
    assert [symbol.undefined for symbol in elf.symbols if symbol.name == "added"] == [False]


CALLER = "int caller(int x) { return hidden(0, x); }"
CALLS = "int added(int); int caller(int x) { return added(x); }"
ADDS = "int added(int x) { return hidden(0, x) + 1; }"


def between(pair: Pair, depends: set[str], *owners: str) -> list[ObjectDiff]:
    """A patch that lets the module `upper` call what it adds to each of *owners*."""
    upper = pair.diff(CALLER, CALLS, module="upper")
    assert upper.plan is not None
    upper.plan.context = replace(upper.plan.context, depends=frozenset(depends))
    none = "int was_there;"
    return [upper, *(pair.diff(none, none + ADDS, None if owner == "vmlinux" else owner) for owner in owners)]


@pytest.mark.parametrize("owners", [["lower"], ["vmlinux"], ["upper"], ["upper", "lower"], ["lower", "stranger"]])
def test_what_is_added_to_an_object_that_is_there_can_be_called(pair: Pair, owners: list[str]) -> None:
    emitted, path = pair.finished(*between(pair, {"lower"}, *owners))
    assert [function.object for function in emitted.functions] == ["upper"]
    added = [symbol for symbol in e.read(path).symbols if symbol.name == "added"]
    assert [symbol.undefined for symbol in added] == [False] * len(owners)


APART = {
    "the patch adds it to lower, without which upper can be loaded": (set(), ["lower"]),
    "the patch adds it to each of lower, vmlinux; which is meant": ({"lower"}, ["lower", "vmlinux"]),
    "neither the kernel nor upper has a symbol of this name": ({"lower"}, []),
}


@pytest.mark.parametrize(("reason", "case"), APART.items(), ids=APART)
def test_what_is_added_elsewhere_is_refused(pair: Pair, reason: str, case: tuple[set[str], list[str]]) -> None:
    depends, owners = case
    with pytest.raises(RefusedError, match=reason):
        emit(between(pair, depends, *owners), pair.folder / "diff.o")


def test_what_nobody_defines_is_refused(pair: Pair) -> None:
    diff = pair.diff(BEFORE, AFTER.replace("hidden(0)", "nowhere(0)"))
    with pytest.raises(RefusedError, match="nowhere"):
        emit([diff], pair.folder / "diff.o")


def test_refusals_of_all_files_are_raised_together(pair: Pair) -> None:
    diff = pair.diff("int table = 1;", "int table = 2;")
    other = pair.diff("int list = 1;", "int list = 2;")
    with pytest.raises(RefusedError) as caught:
        emit([diff, other], pair.folder / "diff.o")
    assert [refusal.function for refusal in caught.value.refusals] == ["table", "list"]
