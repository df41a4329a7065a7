# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run-pre matching. If this breaks, a function is replaced that is not the one which the patch was made against."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils.build import match
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import (
    ChangedFunction,
    ObjectContext,
    Refusal,
)
from ansible_collections.kpatch.fleet.plugins.module_utils.build.symtab import read_symbols

CODE = """
extern int other;
extern int helper(int);
static __attribute__((noinline)) int same(int x) { return helper(x + 1) + other; }
__attribute__((weak)) int changed(int x) { return x ? same(x) : CONSTANT; }
"""
REST = """
int other;
int helper(int x) { return x; }
int changed(int);
int _start(void) { return changed(1); }
"""


def compiled(directory: Path, constant: int, name: str, *flags: str) -> Path:
    source, out = directory / f"{name}.c", directory / f"{name}.o"
    source.write_text(CODE)
    subprocess.run(["gcc", "-O2", "-fno-pie", *flags, f"-DCONSTANT={constant}", "-c", "-o", out, source], check=True)
    return out


def linked(directory: Path, part: Path) -> Path:
    (directory / "rest.c").write_text(REST)
    out = directory / "image"
    subprocess.run(
        ["gcc", "-O2", "-no-pie", "-fno-pie", "-nostdlib", "-o", out, directory / "rest.c", part], check=True
    )
    return out


def compare(rebuilt: Path, image: Path, *names: str) -> list[Refusal]:
    table = read_symbols(image)
    context = ObjectContext("some.c", "vmlinux", {}, table, table)
    return match.compare(rebuilt, image, context, [ChangedFunction("vmlinux", name, 0, "changed") for name in names])


@pytest.mark.parametrize("link", [True, False], ids=["linked image", "relocatable module"])
def test_same_code_matches_whatever_relocations_fill_in(tmp_path: Path, link: bool) -> None:
    shipped = compiled(tmp_path, 3, "shipped")
    image = linked(tmp_path, shipped) if link else shipped
    rebuilt = compiled(tmp_path, 3, "rebuilt")
    assert compare(rebuilt, image, "same", "changed") == []


@pytest.mark.parametrize("link", [True, False], ids=["linked image", "relocatable module"])
def test_another_constant_is_found_and_named(tmp_path: Path, link: bool) -> None:
    shipped = compiled(tmp_path, 3, "shipped")
    image = linked(tmp_path, shipped) if link else shipped
    rebuilt = compiled(tmp_path, 4, "rebuilt")
    (refusal,) = compare(rebuilt, image, "same", "changed")
    assert (refusal.file, refusal.function) == ("some.c", "changed")
    assert "first difference at offset" in refusal.reason


def test_function_that_is_not_there_is_named(tmp_path: Path) -> None:
    image = compiled(tmp_path, 3, "shipped")
    (refusal,) = compare(image, image, "missing")
    assert refusal.function == "missing"


def test_sections_of_a_module_may_claim_addresses(tmp_path: Path) -> None:
    """Those of md-mod.ko in Debian 13's 6.12 do, as binutils 2.44 has linked it; it is no image for that."""
    plain = compiled(tmp_path, 3, "plain", "-ffunction-sections")
    shipped = tmp_path / "shipped.ko"
    subprocess.run(["objcopy", "--change-section-address", ".data=0x420", plain, shipped], check=True)
    headers = subprocess.run(["readelf", "-SW", shipped], capture_output=True, text=True, check=True).stdout
    assert "0000000000000420" in headers
    assert compare(plain, shipped, "same", "changed") == []
