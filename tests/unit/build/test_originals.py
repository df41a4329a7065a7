# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is compared of a function in the running kernel. If this breaks, a patch is refused because the kernel has
rewritten an instruction at boot, or one byte that differs in earnest is not seen.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import ElfError, Original
from ansible_collections.kpatch.fleet.plugins.module_utils.build.originals import originals

# One function with everything in it that the kernel rewrites; the comments say at which offset.
CODE = """
.text
nop
.globl f
.type f, @function
f:
    endbr64                             # 0
1:  .byte 0x0f,0x1f,0x44,0,0            # 4: where ftrace calls
    movl other(%rip), %eax              # 9: 4 bytes from 11
2:  lock incl (%rax)                    # 15: its prefix
3:  jmp 4f                              # 18: a short jump label
4:  .byte 0x0f,0x1f,0x44,0,0            # 20: a long one
5:  pushf; pop %rax; nop                # 25: an alternative of 3
    jne __x86_indirect_thunk_rax        # 28
    cs jmp __x86_indirect_thunk_rax     # 34
    call __SCT__some_call               # 40
6:  movabs $0x1122334455667788, %rax    # 45: a constant from 47
    ud2                                 # 55: stays as it is
    jmp __x86_return_thunk              # 57
.size f, . - f                          # 62
.section __mcount_loc, "a"
    .quad 1b
.section .smp_locks, "a"
    .long 2b - .
.section __jump_table, "aw"
    .long 3b - .
    .long 4b - .
    .quad other - .
    .long 4b - .
    .long 4b - .
    .quad other - .
.section .altinstructions, "a"
    .long 5b - .
    .long 7f - .
    .byte {before}3, 0{after}
.section .altinstr_replacement, "ax"
7:
.section runtime_ptr_other, "a"
    .long 6b + 2 - .
"""
MASKED = ((0, 9), (11, 5), (18, 27), (47, 8), (57, 5))


def assembled(folder: Path, before: str = "0,0,", after: str = "") -> Path:
    source, out = folder / "f.s", folder / "f.o"
    source.write_text(CODE.format(before=before, after=after))
    subprocess.run(["as", "-o", out, source], check=True)
    return out


def fnv(data: bytes) -> int:
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


def text(path: Path) -> bytes:
    raw = path.with_suffix(".text")
    subprocess.run(["objcopy", "-O", "binary", "-j", ".text", path, raw], check=True)
    return raw.read_bytes()[1:]


@pytest.mark.parametrize(("before", "after"), [("0,0,", ""), ("0,0,", ",3"), ("0,0,0,0,", "")])
def test_what_the_kernel_rewrites_is_left_out(tmp_path: Path, before: str, after: str) -> None:
    path = assembled(tmp_path, before, after)
    code = text(path)
    hidden = {at for offset, length in MASKED for at in range(offset, offset + length)}
    stable = bytes(byte for at, byte in enumerate(code) if at not in hidden)
    assert originals(path, ["f", "g"]) == {"f": Original(fnv(stable), 62, MASKED)}


def test_the_checksum_is_fnv_1a() -> None:
    assert fnv(b"foobar") == 0x85944171F73967E8  # a published test vector


def test_alternatives_of_an_unknown_size_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ElfError, match="entries of 17 bytes"):
        originals(assembled(tmp_path, "0,0,0,0,0,0,0,"), ["f"])
