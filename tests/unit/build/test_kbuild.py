# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kbuild's commands and Module.symvers. If this breaks, objects are compiled in another way than the kernel's were."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils.build import elf, generators, kbuild, overlay, special
from ansible_collections.kpatch.fleet.plugins.module_utils.build.debian import identify, kbuild_package
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import BuildError, RefusedError
from ansible_collections.kpatch.fleet.plugins.module_utils.build.symvers import parse_symvers
from ansible_collections.kpatch.fleet.plugins.module_utils.build.tree import Tree
from object_files import kernel_tree

COMMAND = (
    "savedcmd_net/some/part.o := gcc-12 -Wp,-MMD,net/some/.part.o.d -I/tree/source/include -mfentry{module}"
    " -DKBUILD_MODFILE='\"net/some/some-mod\"' -DKBUILD_MODNAME='\"some-mod\"' -c -o net/some/part.o"
    " /tree/source/net/some/part.c {objtool}\n\nsource_net/some/part.o := x\n"
)


def unit(module: str = " -DMODULE", objtool: str = "; ./tools/objtool/objtool --orc net/some/part.o") -> kbuild.Unit:
    return kbuild.parse_command("net/some/part.c", COMMAND.format(module=module, objtool=objtool))


def test_command_tells_module_and_objtool() -> None:
    found = unit()
    assert found.object == "some_mod"
    assert found.compiler[0] == "gcc-12"
    assert found.compiler[-1] == "/tree/source/net/some/part.c"
    assert found.objtool == ("./tools/objtool/objtool", "--orc", "net/some/part.o")
    assert found.traced


def test_built_in_objects_belong_to_vmlinux() -> None:
    found = unit(module="", objtool="")
    assert found.object == "vmlinux"
    assert found.objtool == ()


def test_replayed_command_has_another_output_and_no_dependencies() -> None:
    command = list(kbuild._redirected(unit().compiler, Path("/out.o")))
    assert command[command.index("-o") + 1] == "/out.o"
    assert not any(word.startswith("-Wp,-MMD") for word in command)
    assert len(command) == len(unit().compiler) - 1


def test_a_command_looks_for_all_of_the_source_in_its_workplace(tmp_path: Path) -> None:
    """Else a file is found that the patch does not change."""
    tree = kernel_tree(tmp_path)
    top = tree.source
    words = ("gcc", f"-I{top}", f"-I{top}/include", f"-I{top}-other", "-o", "part.o", f"{top}/net/part.c")
    command = kbuild._command(tree, kbuild.Unit("net/part.c", "vmlinux", words, ()), Path("/out.o"))
    assert command == ["gcc", "-Isource", "-Isource/include", f"-I{top}-other", "-o", "/out.o", "source/net/part.c"]


def test_overlay_shows_replaced_files_with_their_neighbours(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "fs/proc").mkdir(parents=True)
    (source / "include").mkdir()
    (source / "fs/proc/internal.h").write_text("#define ANSWER 42\n")
    (source / "fs/top.h").write_text("#define TOP 1\n")
    (source / "fs/proc/some.c").write_text("old\n")
    (source / "fs/proc/other.c").write_text("other\n")
    replaced = {"fs/proc/some.c": '#include "internal.h"\n#include "../top.h"\nint answer = ANSWER + TOP;\n'}
    overlay.make(source, tmp_path / "view", replaced)
    path = tmp_path / "view/fs/proc/some.c"
    out = subprocess.run(["gcc", "-E", "-P", path], check=True, capture_output=True, text=True).stdout
    assert out == "int answer = 42 + 1;\n"
    assert (source / "fs/proc/some.c").read_text() == "old\n"
    assert (tmp_path / "view/fs/proc/other.c").read_text() == "other\n"


def test_overlay_shows_a_replaced_file_to_those_who_reach_it_by_a_directory_above(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for directory in ("fs/iomap", "fs/ext4", "lib"):
        (source / directory).mkdir(parents=True)
    (source / "fs/internal.h").write_text("#define ANSWER 41\n")
    (source / "fs/iomap/own.h").write_text('#include "../internal.h"\n')
    (source / "lib/other.c").write_text('#include "../fs/iomap/own.h"\nint answer = ANSWER;\n')
    including = ["fs/iomap/own.h", "lib/other.c"]
    overlay.make(source, tmp_path / "view", {"fs/internal.h": "#define ANSWER 42\n"}, including)
    command = ["gcc", "-E", "-P", str(tmp_path / "view/lib/other.c")]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "int answer = 42;\n"
    assert (tmp_path / "view/fs/ext4").is_symlink()


INDEXED = "int table[4];\nint indexed(int i);\nint indexed(int i)\n{\n\treturn table[i];\n}\n"


def compiled_at(root: Path, replaced: overlay.Texts) -> bytes:
    """An object whose record for UBSAN names its source, compiled from the tree below *root*."""
    tree = kernel_tree(root)
    (tree.source / "fs").mkdir(parents=True)
    (tree.source / "fs/some.c").write_text(INDEXED)
    (tree.objects / "include").mkdir(parents=True)
    (tree.objects / "source").symlink_to(tree.source)  # as kbuild has it
    overlay.workplace(tree.source, tree.objects, root / "place", replaced)
    flags = (f"-fmacro-prefix-map={tree.source}/=", "-O2", "-fsanitize=bounds-strict", "-c", "-o", "fs/some.o")
    some = kbuild.Unit("fs/some.c", "vmlinux", ("gcc", *flags, str(tree.source / "fs/some.c")), ())
    kbuild.compile_unit(tree, some, root / "some.o", root / "place")
    return (root / "some.o").read_bytes()


def test_no_object_tells_where_it_was_compiled(tmp_path: Path) -> None:
    here = compiled_at(tmp_path / "here", {})
    assert b"\0source/fs/some.c\0" in here
    assert str(tmp_path).encode() not in here
    assert compiled_at(tmp_path / "there", {}) == here
    assert compiled_at(tmp_path / "patched", {"fs/some.c": INDEXED}) == here


def test_errors_of_the_compiler_name_the_file_as_the_diff_does(tmp_path: Path) -> None:
    with pytest.raises(RefusedError) as refused:
        compiled_at(tmp_path, {"fs/some.c": INDEXED.replace("table[i]", "tabel[i]")})
    (found,) = refused.value.refusals
    assert found.reason.startswith("it does not compile: fs/some.c:5:16: error: 'tabel' undeclared")


def test_symvers() -> None:
    exports = parse_symvers("0x2a\tsome\tnet/8021q/a-b\tEXPORT_SYMBOL_GPL\tNS\n0x1\tother\tvmlinux\tEXPORT_SYMBOL\t\n")
    assert exports["some"] == (exports["some"].__class__)(42, "a_b", "EXPORT_SYMBOL_GPL", "NS")
    assert exports["other"].namespace == ""
    with pytest.raises(ValueError, match="fewer than 4 fields"):
        parse_symvers("0x2a some\n")


def test_kernel_that_debian_did_not_build_is_named() -> None:
    with pytest.raises(BuildError, match=r"6\.9\.0-own.*names no Debian package"):
        identify("6.9.0-own", "#1 SMP Sat Jan 1 2026")
    kernel = identify("6.12.117+deb12-cloud-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.12.117-1~deb12u1 (2026-11-14)")
    assert kernel.version == "6.12.117-1~deb12u1"
    assert kernel.source == "linux-source-6.12"
    assert kbuild_package("a, linux-kbuild-6.12.117+deb12, b") == "linux-kbuild-6.12.117+deb12"


def test_only_the_last_entry_of_paravirt_sites_may_lack_its_padding() -> None:
    assert special.lacks_padding(elf.Section(".parainstructions", size=28), 16)
    assert not special.lacks_padding(elf.Section(".parainstructions", size=32), 16)
    assert not special.lacks_padding(elf.Section("__bug_table", size=28), 16)


def test_a_source_that_is_generated_is_told_from_one_that_is_not_there() -> None:
    generated = "make[3]: *** No rule to make target 'crypto/x509.asn1.h', needed by 'crypto/x509.o'.  Stop."
    assert generators.lacking(generated)
    assert not generators.lacking("make[2]: *** No rule to make target 'fs/nosuch.o'.  Stop.")


def test_make_prepare_runs_once_and_only_programs_are_taken_from_it(tmp_path: Path) -> None:
    tree = kernel_tree(tmp_path / "some")
    (tree.objects / "scripts").mkdir(parents=True)
    said: list[str] = []

    def prepare(_tree: object, copy: Path) -> None:
        for name, content in (("scripts/compiler", b"\x7fELF"), ("scripts/compiler.sh", b"#!/bin/sh"), ("rel", b"x")):
            (copy / name).write_bytes(content)
            (copy / name).chmod(0o755)

    assert generators.add(tree, prepare, said.append)
    assert not generators.add(tree, prepare, said.append)
    assert sorted(str(path.relative_to(tree.objects)) for path in tree.objects.rglob("*") if path.is_file()) == [
        ".generators",
        "scripts/compiler",
    ]
    assert len(said) == 1


def test_what_make_prepare_lacks_is_named_and_no_patch_is_blamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = kernel_tree(tmp_path / "some")
    (tree.source / "scripts").mkdir(parents=True)
    (tree.source / "scripts/Makefile.build").touch()
    (tree.source / "Makefile").write_text("$(MAKECMDGOALS): %.o: flask.h\n")
    tree.objects.mkdir()

    def prepare(_tree: object, _copy: Path) -> None:
        failed = BuildError("make … prepare: failed with status 2: make: *** Waiting for unfinished jobs....")
        failed.said = "/bin/sh: 1: flex: not found\nmake[2]: *** [scripts/genksyms/lex.lex.c] Error 127\n" + str(failed)
        raise failed

    monkeypatch.setattr(kbuild, "_prepare", prepare)
    with pytest.raises(BuildError, match="prepare' failed: /bin/sh: 1: flex: not found; install") as raised:
        kbuild.units(tree, {"security/selinux/avc.c": ["vmlinux"]})
    assert not isinstance(raised.value, RefusedError)


# Each goal that make gives up is one more line behind the one that tells why.
WANTING = """
$(MAKECMDGOALS): %.o: generated.h
generated.h: some.list; ./generator > $@
"""


def test_a_lacking_program_is_seen_however_many_objects_want_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = kernel_tree(tmp_path)
    for directory in (tree.source, tree.objects):
        directory.mkdir()
    (tree.source / "Makefile").write_text(WANTING)

    def add(*_arguments: object) -> bool:
        (tree.objects / "some.list").touch()
        (tree.objects / "generator").write_text("#!/bin/sh\n")
        (tree.objects / "generator").chmod(0o755)
        return True

    monkeypatch.setattr(generators, "add", add)
    kbuild.make(tree, "-k", *(f"net/some/number-{number}.o" for number in range(100)))
    assert (tree.objects / "generated.h").exists()


# How 5.10 has it: objtool is a command of its own, and only the compiler's is noted.
APART = """
objtool_obj = $(if $(exempt),,./tools/objtool/objtool)
objtool_args = orc generate
c_flags = -mfentry
cmd_cc_o_c = $(CC) $(c_flags) -c -o $@ $<
cmd_objtool = $(objtool_obj) $(objtool_args) $@
net/some/part.o: net/some/part.c
\t@echo 'cmd_$@ := $(cmd_cc_o_c)'
\t@echo '$(cmd_objtool)'
net/some/part.c:
"""


@pytest.mark.parametrize(
    ("exempt", "objtool"),
    [("", ("./tools/objtool/objtool", "orc", "generate", "net/some/part.o")), ("exempt=y", ())],
)
def test_objtool_is_noted_where_it_runs_apart(exempt: str, objtool: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text(APART)
    command = ["make", "-s", "CC=gcc-10", *kbuild._NOTED, *([exempt] if exempt else []), "net/some/part.o"]
    noted = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert noted.splitlines()[1:] == [""], "objtool would run twice"
    found = kbuild.parse_command("net/some/part.c", noted)
    assert found.objtool == objtool
    assert found.compiler == ("gcc-10", "-mfentry", "-c", "-o", "net/some/part.o", "net/some/part.c")


@pytest.mark.parametrize(
    ("rule", "apart"), [("\t$(call cmd,objtool)\n", True), ("\t$(call cmd,gen_objtooldep)\n", False)]
)
def test_kbuild_that_runs_objtool_apart_is_known(rule: str, apart: bool, tmp_path: Path) -> None:
    tree = kernel_tree(tmp_path)
    (tree.source / "scripts").mkdir(parents=True)
    (tree.source / "scripts/Makefile.build").write_text(f"define rule_cc_o_c\n{rule}endef\n")
    assert kbuild._runs_objtool_apart(tree) is apart


NOTED = COMMAND.format(module="", objtool="")


HALF = (
    COMMAND.format(module="", objtool="; ./tools/objtool/objtool")
    .partition("\n")[0]
    .replace("/tree/source", "{source}")
)


@pytest.mark.parametrize("there", [NOTED, NOTED[:12], HALF, ""], ids=["elsewhere", "begun", "half", "empty"])
def test_a_command_that_was_noted_at_another_place_or_is_being_written_is_asked_for_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: str
) -> None:
    tree = kernel_tree(tmp_path)
    (tree.source / "scripts").mkdir(parents=True)
    (tree.source / "scripts/Makefile.build").touch()
    noted = tree.objects / "net/some/.part.o.cmd"
    noted.parent.mkdir(parents=True)
    noted.write_text(there.replace("{source}", str(tree.source)))
    asked: list[str] = []

    def make(_tree: Tree, *arguments: str, **_others: object) -> str:
        asked.extend(argument for argument in arguments if argument.endswith(".o"))
        noted.write_text(NOTED.replace("/tree/source", str(tree.source)))
        return ""

    monkeypatch.setattr(kbuild, "make", make)
    for _again in range(2):
        (found,), refusals = kbuild.units(tree, {"net/some/part.c": ["vmlinux"]})
        assert found.compiler[-1] == str(tree.source / "net/some/part.c")
        assert refusals == []
    assert asked == ["net/some/part.o"]
