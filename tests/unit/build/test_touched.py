# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files a patch touches. If this breaks, a file that a header changes is not rebuilt, and keeps the fault."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils.build import includes, makefiles, touched
from ansible_collections.kpatch.fleet.plugins.module_utils.build.source_patch import FilePatch
from ansible_collections.kpatch.fleet.plugins.module_utils.build.tree import Tree
from object_files import kernel_tree

FILES = {
    "include/linux/some.h": "#include <linux/deep.h>\n",
    "include/linux/deep.h": "",
    "include/asm-generic/page.h": "",
    "include/uapi/asm-generic/types.h": "",
    "include/linux/kconfig.h": "",
    "drivers/net/deep.h": "",
    "drivers/net/local.h": "# include <linux/some.h>\n",
    "drivers/net/one.c": '#include "local.h"\n',
    "drivers/net/two.c": '#include "deep.h"\n#include <asm/page.h>\n',
    "drivers/net/trace.h": '#define CMDS "cmds.h"\n#include CMDS\n',
    "drivers/net/cmds.h": "",
    "drivers/net/three.c": '#ifdef NEVER\n#include "trace.h"\n#endif\n',
    "drivers/net/Makefile": "obj-$(CONFIG_ONE) += one.o two.o\nobj-$(CONFIG_MOD) += my-mod.o sub/\n"
    "my-mod-y := three.o\nmy-mod-$(CONFIG_OFF) += off.o\nfour: ; touch made\n",
    "drivers/net/off.c": "",
    "drivers/net/sub/Makefile": "obj-m += also.o shared.o\nalso-objs := ../three.o\nobj-y += lost.o\n",
    "drivers/net/sub/lost.c": "",
    "drivers/net/sub/shared.c": "",
    "drivers/Makefile": "obj-y += net/ bits_$(BITS).o\n",
    "drivers/bits_64.c": "",
    "arch/x86/Kbuild": "obj-y := entry/\n",
    "arch/x86/entry/Makefile": "obj-y := vdso/\n",
    "arch/x86/entry/vdso/Makefile": "obj-y := vma.o\nvobjs-y := time.o note.o\nvobjs32-y := vdso32/time.o\n",
    "arch/x86/entry/vdso/vma.c": "",
    "arch/x86/entry/vdso/time.c": "",
    "arch/x86/entry/vdso/note.S": "",
    "arch/x86/entry/vdso/vdso32/time.c": "",
    "kernel/bounds.c": "",
    "arch/x86/kernel/asm-offsets.c": "",
    "arch/x86/kvm/kvm-asm-offsets.c": "",
    "init/Makefile": "obj-y := main.o\n",
    "init/main.c": "",
    "kernel/Kbuild": "obj-y := core.o assembler.o\n",
    "kernel/Makefile": "obj-y := wrong.o\n",
    "kernel/core.c": "#include <asm/types.h>\n",
    "kernel/wrong.c": "",
    "kernel/assembler.S": "",
    "kernel/spelled.c": "/* #include <linux/told.h> */\nint x;\t#include <linux/kept.h>\n\t#\tinclude <linux/last.h>",
    "include/linux/told.h": "",
    "include/linux/kept.h": "",
    "include/linux/last.h": "",
}


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    for path, text in FILES.items():
        (tmp_path / "source" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "source" / path).write_text(text)
    (tmp_path / "objects/include/config").mkdir(parents=True)
    (tmp_path / "objects/include/config/auto.conf").write_text("CONFIG_ONE=y\nCONFIG_MOD=m\n")
    return kernel_tree(tmp_path)


def includers(tree: Tree, *changed: str) -> set[str]:
    return includes.Includes(tree, {}, lambda line: None).includers(changed)


def test_what_includes_a_header_by_way_of_others(tree: Tree) -> None:
    assert includers(tree, "include/linux/deep.h") == {
        "include/linux/some.h",
        "drivers/net/local.h",
        "drivers/net/one.c",
    }


def test_the_file_beside_comes_before_the_common_one(tree: Tree) -> None:
    assert includers(tree, "drivers/net/deep.h") == {"drivers/net/two.c"}


def test_generated_headers_lead_to_generic_ones(tree: Tree) -> None:
    assert includers(tree, "include/asm-generic/page.h") == {"drivers/net/two.c"}
    assert includers(tree, "include/uapi/asm-generic/types.h") == {"kernel/core.c"}


def test_branches_that_are_not_taken_and_names_in_macros_count(tree: Tree) -> None:
    assert includers(tree, "drivers/net/cmds.h") == {"drivers/net/trace.h", "drivers/net/three.c"}


def test_a_line_includes_if_nothing_is_before_it(tree: Tree) -> None:
    found = [includers(tree, f"include/linux/{name}.h") for name in ("told", "kept", "last")]
    assert found == [set(), set(), {"kernel/spelled.c"}]


def test_c_files_that_others_include_are_known(tree: Tree) -> None:
    (tree.source / "kernel/wrong.c").write_text('#define one two\n#include "core.c"\n')
    assert includes.c_files(tree, lambda line: None) == {"kernel/core.c"}


@pytest.mark.parametrize("path", ["kernel/bounds.c", "arch/x86/kernel/asm-offsets.c"])
def test_what_the_build_makes_numbers_of_is_no_part_of_the_kernel(tree: Tree, path: str) -> None:
    """A diff of it must not be taken and left undone."""
    nothing = touched.Touched()
    (refusal,) = touched.unbuilt(tree, [FilePatch(path)], nothing, lambda line: None)
    assert (refusal.file, "built without it" in refusal.reason) == (path, True)


def test_what_the_compiler_is_told_to_include_reaches_everything(tree: Tree) -> None:
    assert "kernel/core.c" in includers(tree, "include/linux/kconfig.h")


def test_a_patch_may_make_a_file_include_another(tree: Tree) -> None:
    texts = {"kernel/core.c": '#include "new.h"\n', "kernel/new.h": "#include <linux/deep.h>\n"}
    graph = includes.Includes(tree, texts, lambda line: None)
    assert graph.includers(["kernel/new.h"]) == {"kernel/core.c"}


def test_makefiles_tell_what_is_built_and_into_what(tree: Tree) -> None:
    assert makefiles.built(tree, lambda line: None) == {
        "arch/x86/entry/vdso/vma.c": ["vmlinux"],
        "drivers/net/one.c": ["vmlinux"],
        "drivers/net/two.c": ["vmlinux"],
        "drivers/net/three.c": ["also", "my_mod"],
        "drivers/net/sub/shared.c": ["shared"],
        "drivers/bits_64.c": ["vmlinux"],
        "init/main.c": ["vmlinux"],
        "kernel/core.c": ["vmlinux"],
    }
    assert not (tree.objects / "made").exists()
    assert makefiles.fixed(tree, lambda line: None) == {
        "arch/x86/entry/vdso/note.S": [makefiles.VDSO],
        "arch/x86/entry/vdso/time.c": [makefiles.VDSO],
        "arch/x86/entry/vdso/vdso32/time.c": [makefiles.VDSO],
        "arch/x86/kernel/asm-offsets.c": ["vmlinux"],
        "kernel/assembler.S": ["vmlinux"],
        "kernel/bounds.c": ["vmlinux"],
    }
