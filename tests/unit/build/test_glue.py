# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The glue C. If this breaks, the core module reads tables that are not what was emitted, or the loader refuses."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils.build import glue
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import (
    BuildError,
    EmittedFunction,
    EmittedObject,
    EmittedReloc,
    Export,
    Original,
)

KMOD = Path(__file__).parents[3] / "kmod"
CONSISTENCY = {"leave": "patched_set", "switch": "kernel"}
EMITTED = EmittedObject(
    functions=[
        EmittedFunction("some_module", "show", 1, "new_0", "changed"),
        EmittedFunction("some_module", "show", 2, "new_1", "changed"),
        EmittedFunction("vmlinux", "read.isra.0", 0, "new_2", "changed"),
    ],
    relocs=[EmittedReloc("other_module", "place_0", 2, "helper", 0, -4)],
)
ORIGINALS = {
    ("some_module", "show", 1): Original(8, 4, ()),
    ("some_module", "show", 2): Original(0xFEDCBA9876543210, 40, ((0, 5), (9, 4))),
    ("vmlinux", "read.isra.0", 0): Original(7, 3, ()),
}
TYPES = """
#include <stdbool.h>
typedef unsigned int u32;
typedef unsigned long long u64;
"""
STUB = """
#define __init
#define __exit
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define THIS_MODULE ((struct module *)0)
#define NULL ((void *)0)
#define module_init(f) int (*init)(void) = f;
#define module_exit(f) void (*leave)(void) = f;
#define MODULE_DESCRIPTION(x)
#define MODULE_LICENSE(x)
#define MODULE_INFO(a, b)
#define MODULE_NAME_LEN 56
#define MODULE_PARM_DESC(a, b)
#define module_param_string(a, b, c, d)
int kpatch_register(const struct kpatch_patch *patch) { return 0; }
void kpatch_unregister(const struct kpatch_patch *patch) { }
char new_0[1], new_1[1], new_2[1], place_0[1];
#include <stdio.h>
int main(void)
{
  for (unsigned int i = 0; i < patch.nr_objects; i++) {
    const struct kpatch_object *o = &patch.objects[i];
    printf("%s:", o->name ? o->name : "vmlinux");
    for (unsigned int f = 0; f < o->nr_funcs; f++) {
      const struct kpatch_original *was = o->funcs[f].original;
      printf(" %s,%lu=%d %llx/%u", o->funcs[f].name, o->funcs[f].sympos,
             o->funcs[f].new_func == new_0 ? 0 : o->funcs[f].new_func == new_1 ? 1 : 2, was->checksum, was->size);
      for (unsigned int m = 0; m < was->nr_masked; m++)
        printf("-%u+%u", was->masked[m].offset, was->masked[m].length);
    }
    for (unsigned int r = 0; r < o->nr_relocs; r++)
      printf(" %s,%lu%+ld/%u", o->relocs[r].symbol, o->relocs[r].sympos,
             o->relocs[r].addend, o->relocs[r].type);
    printf("\\n");
  }
  printf("%u %d %d\\n", patch.abi, patch.leave, patch.switching);
}
"""


def tables(emitted: EmittedObject = EMITTED) -> str:
    return glue.tables((KMOD / "patch" / glue.TABLES).read_text(), "some", emitted, ORIGINALS, CONSISTENCY)


def test_tables_hold_what_was_emitted(tmp_path: Path) -> None:
    """Compiled for the machine that tests, and read back."""
    code = tables().replace("#include <linux/init.h>", "").replace("#include <linux/module.h>", "")
    before, after = STUB.split("int kpatch_register", 1)
    code = code.replace('#include "kpatch.h"', '#include "kpatch.h"\n' + before)
    (tmp_path / "tables.c").write_text(code + "int kpatch_register" + after)
    (tmp_path / "linux").mkdir()
    (tmp_path / "linux/types.h").write_text(TYPES)
    program = tmp_path / "program"
    include = [f"-I{tmp_path}", f"-I{KMOD / 'core'}"]
    subprocess.run(["gcc", "-Wall", *include, "-o", program, tmp_path / "tables.c"], check=True)
    printed = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    assert printed.splitlines() == [
        "vmlinux: read.isra.0,0=2 7/3",
        "other_module: helper,0-4/2",
        "some_module: show,1=0 8/4 show,2=1 fedcba9876543210/40-0+5-9+4",
        "4 1 2",
    ]


def test_versions_are_those_of_the_symbols_it_takes() -> None:
    exports = {
        "module_layout": Export(1, "vmlinux", "EXPORT_SYMBOL"),
        "seq_write": Export(0x2A, "vmlinux", "EXPORT_SYMBOL", "SOME_NS"),
        "unused": Export(3, "vmlinux", "EXPORT_SYMBOL"),
        "kpatch_register": Export(4, "kpatch", "EXPORT_SYMBOL_GPL"),
    }
    template = (KMOD / "patch" / glue.MODULE).read_text()
    code = glue.module(template, "ABCD", {"seq_write", "kpatch_register", ".klp.sym.vmlinux.x,0"}, exports)
    listed = [line.strip() for line in code.splitlines() if line.startswith("\t{ 0x")]
    assert listed == [
        '{ 0x00000004, "kpatch_register" },',
        '{ 0x00000001, "module_layout" },',
        '{ 0x0000002a, "seq_write" },',
    ]
    assert 'MODULE_INFO(depends, "kpatch");' in code
    assert 'MODULE_INFO(import_ns, "SOME_NS");' in code
    assert 'MODULE_INFO(srcversion, "ABCD");' in code


def test_names_can_not_break_out_of_the_c() -> None:
    assert glue.c_string('a"b\\c\n') == '"a\\"b\\\\c\\012"'
    with pytest.raises(BuildError, match="can't be named in C"):
        tables(EmittedObject(functions=[EmittedFunction("vmlinux", "f", 0, "f.cold", "changed")]))


@pytest.mark.parametrize(
    ("consistency", "means"), [(CONSISTENCY, "STOPPING"), ({**CONSISTENCY, "means": "counting"}, "COUNTING")]
)
def test_the_means_are_those_asked_for(consistency: dict[str, str], means: str) -> None:
    text = glue.tables((KMOD / "patch" / glue.TABLES).read_text(), "some", EMITTED, ORIGINALS, consistency)
    assert f".means = KPATCH_BY_{means}," in text


@pytest.mark.parametrize("replace", [False, True])
def test_it_replaces_others_only_if_that_is_asked_for(replace: bool) -> None:
    core = (KMOD / "patch" / glue.TABLES).read_text()
    livepatch = (KMOD / "patch" / glue.LIVEPATCH).read_text()
    text = glue.tables(core, "some", EMITTED, ORIGINALS, CONSISTENCY, replace)
    assert (".replace = true," in text) == replace
    assert (".replace = true," in glue.livepatch(livepatch, "some", EMITTED, replace)) == replace


def test_abi_is_read_from_the_header() -> None:
    assert glue.abi((KMOD / "core" / glue.HEADER).read_text()) >= 1
    with pytest.raises(BuildError, match="KPATCH_ABI"):
        glue.abi("")
