# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where instructions end. If this breaks, a constant is taken for a call, and is overwritten in the patch module."""

from __future__ import annotations

import re
import subprocess

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils.build import elf
from ansible_collections.kpatch.fleet.plugins.module_utils.build.decode import (
    Branch,
    UnknownInstructionError,
    branches,
)
from object_files import Pair

# One of each form: what comes after must be found, so that each is followed by a call.
FORMS = """
90  f3 0f 1e fa  66 2e 0f 1f 84 00 00 00 00 00  0f 1f 44 00 00  0f 0b  67 0f b9 41 02  cc  f4  c3  c2 08 00
48 89 e5  48 8b 05 e8 00 00 00  8b 04 25 e8 00 00 00  48 8d 7c 24 e8  8b 84 24 e8 00 00 00  8b 80 e8 00 00 00
41 8b 45 e8  8b 04 85 e8 00 00 00  4a 8b 04 ed e8 00 00 00  04 e8  05 e8 00 00 00  66 05 e8 00
b8 e8 00 00 00  66 b8 e8 00  48 b8 e8 00 00 00 e8 00 00 00  49 bf e8 00 00 00 e8 00 00 00  b0 e8  41 b7 e8
83 c0 e8  81 c1 e8 00 00 00  66 81 c1 e8 00  48 81 c4 e8 00 00 00  69 c0 e8 00 00 00  66 6b c0 e8  68 e8 00 00 00  6a e8
f6 c1 e8  f7 c1 e8 00 00 00  66 f7 c1 e8 00  48 f7 c1 e8 00 00 00  f6 05 00 00 00 00 e8  f6 d1  f7 f1  48 f7 e2
48 f7 44 24 08 e8 00 00 00  c6 05 00 00 00 00 e8  c7 05 00 00 00 00 e8 00 00 00  c1 e8 05  c0 6c 24 08 e8  d3 e8  d1 e8
a8 e8  a9 e8 00 00 00  a1 e8 00 00 00 e8 00 00 00  67 a1 e8 00 00 00  c8 e8 00 00  cd e8  e4 e8
ff d0  ff 15 e8 00 00 00
0f ba e0 e8  0f a4 c1 e8  0f ac c1 e8  0f a5 c1  0f c7 0f  0f ae e8  0f a2  0f 31  0f 05  0f 01 f9  f0 0f b1 0a  0f c8
0f 38 f1 07  66 0f 3a 0f c1 e8  66 0f 70 c0 e8  0f c6 c0 e8  f3 a4  f3 48 ab  64 a1 e8 00 00 00 e8 00 00 00
c5 f8 77  c5 fc 28 c1  c5 fd 70 c0 e8  c4 e2 7d 58 05 e8 00 00 00  c4 e3 fd 00 c0 e8  62 f1 7c 48 28 c1
62 f3 fd 48 43 c0 e8  62 f1 7c 48 28 40 e8  65 48 8b 04 25 e8 00 00 00  65 ff 0d e8 00 00 00
"""


@pytest.mark.parametrize("form", [form for line in FORMS.split("\n") for form in line.split("  ") if form])
def test_a_call_behind_an_instruction_is_found_and_none_within_it(form: str) -> None:
    code = bytes.fromhex(form)
    call = b"\xe8\x10\x00\x00\x00"
    size = len(code)
    assert branches(code + call, 0, size + 5) == [Branch(size + 1, 4, size + 5 + 16)]


@pytest.mark.parametrize(
    ("code", "branch"),
    [
        ("e9 f0 ff ff ff", Branch(1, 4, -11)),
        ("0f 84 10 00 00 00", Branch(2, 4, 22)),
        ("2e e8 10 00 00 00", Branch(2, 4, 22)),
        ("eb fe", Branch(1, 1, 0)),
        ("74 10", Branch(1, 1, 18)),
        ("e3 10", Branch(1, 1, 18)),
    ],
)
def test_branches(code: str, branch: Branch) -> None:
    data = bytes.fromhex(code)
    assert branches(data, 0, len(data)) == [branch]


@pytest.mark.parametrize("code", ["d6", "06", "e8 10", "48", "66 e8 00 00 00 00", "62 f0 7c 48 28 c1", "81 c1 00", ""])
def test_what_is_not_known_is_not_guessed(code: str) -> None:
    data = bytes.fromhex(code)
    if not data:
        assert branches(data, 0, 0) == []
        return
    with pytest.raises(UnknownInstructionError):
        branches(data, 0, len(data))


def test_it_agrees_with_objdump_about_compiled_code(pair: Pair) -> None:
    """The branches of a function that uses much of what compilers make."""
    source = """
long first(long x, unsigned char *p, int n)
{
    long table[40] = { 1, 2, 0xe8e8e8e8e8 };
    switch (n) { case 1: x *= 0xe8e8; break; case 70: x /= n; break; case 900: return exported("a", x, p, n); }
    for (int i = 0; i < n; i++) {
        table[i & 31] ^= p[i] * 0xe9e9e9e9L + (x << 3) - (x >> n);
        if (p[i] > 200) hidden("b", table, i); else if (!(table[i] & 0xe8)) exported("c");
        __atomic_fetch_add(&table[3], 5, __ATOMIC_SEQ_CST);
    }
    return __builtin_bswap64(x) + table[n] + other_module(n);
}
"""
    path = pair.compile("compiled", source)
    listed = subprocess.run(["objdump", "-d", "-j", ".text.first", path], capture_output=True, text=True, check=True)
    told = re.findall(r"\t(?:j\w+|call) +([0-9a-f]+) ", listed.stdout)
    section = next(section for section in elf.read(path).sections if section.name == ".text.first")
    found = branches(section.data, 0, section.size)
    assert [branch.target for branch in found] == [int(target, 16) for target in told]
    assert len(found) > 10
