# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pairs of object files compiled from C as a kernel's are, and the symbols of a kernel linked from one of them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path

from ansible_collections.kpatch.fleet.plugins.module_utils.build.diff import diff_objects
from ansible_collections.kpatch.fleet.plugins.module_utils.build.emit import emit
from ansible_collections.kpatch.fleet.plugins.module_utils.build.finish import finish
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import (
    Added,
    ChangedFunction,
    EmittedObject,
    Export,
    ObjectContext,
    ObjectDiff,
)
from ansible_collections.kpatch.fleet.plugins.module_utils.build.symtab import read_symbols
from ansible_collections.kpatch.fleet.plugins.module_utils.build.tree import Tree

FLAGS = [
    *("-O2", "-g0", "-w", "-std=gnu11", "-ffreestanding", "-fno-pie", "-mcmodel=kernel", "-mno-red-zone"),
    *("-mno-sse", "-fcf-protection=none", "-fno-stack-protector", "-fno-asynchronous-unwind-tables"),
    *("-fno-strict-aliasing", "-pg", "-mfentry", "-mrecord-mcount", "-fno-jump-tables"),
    *("-ffunction-sections", "-fdata-sections"),
]

# What the kernel would declare; the functions are nowhere defined.
HEADER = """
int exported(const char *, ...);
int hidden(const char *, ...);
int other_module(int);
#define noinline __attribute__((noinline))
#define cold __attribute__((cold))
#define notrace __attribute__((no_instrument_function))
#define __init __attribute__((section(".init.text"), __noinline__))
#define WARN() asm volatile("1: ud2\\n.pushsection __bug_table,\\"aw\\"\\n.long 1b - .\\n.long %c0 - .\\n" \\
    ".word %c1\\n.word 0\\n.popsection" : : "i" (__FILE__), "i" (__LINE__))
#define WARN_WITH(text) ({ void *bug; asm volatile("lea 2f(%%rip), %0\\n1: ud1 (%%rcx), %%edx\\n" \\
    ".pushsection __bug_table,\\"aw\\"\\n2: .long 1b - .\\n.long %c1 - .\\n.long %c2 - .\\n" \\
    ".word %c3\\n.word 0\\n.popsection" \\
    : "=r" (bug) : "i" (text), "i" (__FILE__), "i" (__LINE__)); bug; })
#define STATIC_BRANCH(key) BRANCH("0x0f,0x1f,0x44,0,0", key)
#define SHORT_BRANCH(key) BRANCH("0x66,0x90", key)
#define BRANCH(nop, key) ({ __label__ yes; int r = 0; \\
    asm goto("1: .byte " nop "\\n.pushsection __jump_table,\\"aw\\"\\n.balign 8\\n.long 1b - .\\n" \\
    ".long %l[yes] - .\\n.quad %c0 - .\\n.popsection" : : "i" (key) : : yes); if (0) { yes: r = 1; } r; })
"""
STUBS = """
int exported(const char *x, ...) { return 0; }
int hidden(const char *x, ...) { return 0; }
int __fentry__(void) { return 0; }
"""


def kernel_tree(root: Path) -> Tree:
    """A prepared kernel in *root*, where nothing of it is yet."""
    return Tree(root, "6.1.0-1-amd64", "6.1.1-1", "ab", "gcc-12 (Debian 12.2.0-14) 12.2.0", "", "", "")


def names(items: Iterable[ChangedFunction | Added]) -> list[str]:
    """Theirs, sorted."""
    return sorted(item.name for item in items)


class Pair:
    """The workshop of one test: two sources in, a diff or an emitted object out."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.exports = {name: Export(1, "vmlinux", "EXPORT_SYMBOL") for name in ("exported", "__fentry__")}
        self.exports["other_module"] = Export(2, "neighbour", "EXPORT_SYMBOL_GPL")

    def compile(self, name: str, source: str, *flags: str) -> Path:
        """An object file of *source*, which calls itself demo.c."""
        out, source_file = self.folder / f"{name}.o", self.folder / name / "demo.c"
        source_file.parent.mkdir(exist_ok=True)
        source_file.write_text(f'{HEADER}\n#line 1 "demo.c"\n{source}', encoding="utf-8")
        subprocess.run(["gcc", *FLAGS, *flags, "-c", source_file, "-o", out], check=True)
        return out

    def link(self, name: str, *objects: Path, kernel: bool = True) -> Path:
        """What the object files are linked into: a vmlinux, or a module."""
        out = self.folder / name
        how = ["-Ttext=0xffffffff81000000", "-e", "0", "--unresolved-symbols=ignore-all"] if kernel else ["-r"]
        subprocess.run(["ld", "-o", out, *how, *objects], check=True, capture_output=True)
        return out

    def context(self, original: Path, *others: Path, module: str | None = None) -> ObjectContext:
        """Where *original* belongs: vmlinux, linked of it and *others*, or *module*."""
        stubs = self.compile("stubs", STUBS)
        if module is None:
            symbols = read_symbols(self.link("vmlinux", *others, original, stubs))
            return ObjectContext("kernel/demo.c", "vmlinux", self.exports, symbols, symbols)
        vmlinux = read_symbols(self.link("vmlinux", stubs))
        symbols = read_symbols(self.link("module.ko", *others, original, kernel=False))
        return ObjectContext("net/demo/demo.c", module, self.exports, symbols, vmlinux)

    def diff(self, before: str, after: str, module: str | None = None, *flags: str) -> ObjectDiff:
        """The diff of two sources."""
        original, patched = self.compile("original", before, *flags), self.compile("patched", after, *flags)
        return diff_objects(original, patched, self.context(original, module=module))

    def emit(self, *diffs: ObjectDiff) -> tuple[EmittedObject, Path]:
        """The emitted object, and the file."""
        out = self.folder / "diff.o"
        return emit(diffs, out), out

    def finished(self, *diffs: ObjectDiff) -> tuple[EmittedObject, Path]:
        """The emitted object, linked with a table that uses its aliases, and finished."""
        emitted, diff = self.emit(*diffs)
        names = [function.alias for function in emitted.functions] + [hook.alias for hook in emitted.hooks]
        names += [reloc.place for reloc in emitted.relocs]
        glue = "".join(f"extern char {name}[];\n" for name in names)
        glue += "void *const glue_table[] = {" + ", ".join(names) + "};\n"
        linked = self.link("linked.o", diff, self.compile("glue", glue), kernel=False)
        out = self.folder / "module.finished.ko"
        finish(linked, out)
        return emitted, out


def readelf(path: Path, *what: str) -> str:
    """What readelf, which is not ours, says; it may have nothing to complain of."""
    done = subprocess.run(["readelf", "-W", *what, path], capture_output=True, text=True, check=True)
    assert not done.stderr, done.stderr
    return done.stdout
