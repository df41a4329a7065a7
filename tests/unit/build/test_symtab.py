# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looking up symbols. If this breaks, a function is replaced that is another one of its name."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils.build import elf
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import ElfError
from ansible_collections.kpatch.fleet.plugins.module_utils.build.symtab import AmbiguousError, read_symbols


def linked(folder: Path, *sources: str) -> Path:
    """A vmlinux of assembled sources."""
    objects = []
    for number, source in enumerate(sources):
        objects.append(folder / f"{number}.o")
        subprocess.run(["as", "-o", objects[-1]], input=source, text=True, check=True)
    out = folder / "vmlinux"
    subprocess.run(["ld", "-e", "0", "--unresolved-symbols=ignore-all", "-o", out, *objects], check=True)
    return out


LISTED = """
.file "some.c"
.globl work
.weak spare
head_work: nop
work: nop
spare: nop
__pfx_work: nop
__crc_work: call undefined
"""


def test_what_kallsyms_lists_is_found(tmp_path: Path) -> None:
    """The linker keeps `work` at the end of `head_work`, and no string of its own."""
    table = read_symbols(linked(tmp_path, LISTED))
    (work,), (head,) = table.entries("work"), table.entries("head_work")
    assert work.value == head.value + 1
    assert (work.local, head.local) == (False, True)
    assert [table.is_weak(name) for name in ("work", "spare")] == [False, True]
    hidden = ("some.c", ".text", "", "undefined", "__pfx_work", "__crc_work", "ork")
    assert [name for name in hidden if name in table or table.entries(name)] == []


def unit(file: str, *names: str) -> str:
    return f'.file "{file}"\n' + "".join(f"{name}: nop\n" for name in names)


# A label may be called as a file is; global symbols come last, behind no FILE symbol of theirs.
UNITS = [
    unit("same.c", "work", "one"),
    unit("other.c", "work", "same.c", "two"),
    unit("same.c", "work", "three", "everybody") + ".globl everybody\n",
]


@pytest.mark.parametrize(("names", "sympos"), [({"one"}, 1), ({"three"}, 3)])
def test_of_files_of_one_name_that_with_the_local_names_is_meant(tmp_path: Path, names: set[str], sympos: int) -> None:
    """What stands behind the next FILE symbol is another file's."""
    group = read_symbols(linked(tmp_path, *UNITS)).group("some/where/same.c", names)
    assert group.sympos("work", local=True) == sympos


def test_files_that_fit_equally_well_are_all_meant(tmp_path: Path) -> None:
    group = read_symbols(linked(tmp_path, *UNITS)).group("same.c", {"one", "three"})
    with pytest.raises(AmbiguousError, match="there are 3 symbols named work, and 2 of them could be this one"):
        group.sympos("work", local=True)


@pytest.mark.parametrize("name", ["two", "everybody", "nowhere"])
def test_a_file_that_has_none_of_the_names_is_not_meant(tmp_path: Path, name: str) -> None:
    assert read_symbols(linked(tmp_path, *UNITS)).group("same.c", {name}).files is None


def test_a_name_outside_of_the_strings_is_damage(tmp_path: Path) -> None:
    path = linked(tmp_path, LISTED)
    image = bytearray(path.read_bytes())
    (table,) = (header for header in elf.headers(path, memoryview(image), elf.LINKED) if header.type == elf.SHT_SYMTAB)
    image[table.offset + elf.SYM.size : table.offset + elf.SYM.size + 4] = b"\xff\xff\xff\x00"
    path.write_bytes(image)
    with pytest.raises(ElfError, match="a name at offset 16777215 is outside its string table"):
        read_symbols(path)
