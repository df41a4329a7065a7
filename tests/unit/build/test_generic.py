# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A kernel given by paths. If these fail, one is prepared from parts of several builds, and its patches crash it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils.build import toolchain, tree
from ansible_collections.kpatch.fleet.plugins.module_utils.build.generic import Given, _digest
from ansible_collections.kpatch.fleet.plugins.module_utils.build.identity import Identity, KernelSource
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import BuildError
from ansible_collections.kpatch.fleet.plugins.module_utils.build.provider import tools
from ansible_collections.kpatch.fleet.plugins.module_utils.build.run import run

RELEASE, COMPILER = "6.1.9-own", "gcc (Own 1-1) 1"
CONFIG = f'# Linux/x86 6.1.9 Kernel Configuration\nCONFIG_CC_VERSION_TEXT="{COMPILER}"\nCONFIG_PAHOLE_VERSION=124\n'
BANNER = f"Linux version {RELEASE} (a@b) ({COMPILER}, GNU ld 2) #1 SMP\n"


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KernelSource:
    """Parts that fit together, and a machine that has the compiler."""
    source = tmp_path / "tree"
    for part in ("kernel", "arch/x86/mm", "arch/arm/crypto", ".git", "Documentation/core-api"):
        (source / part).mkdir(parents=True)
    (source / "Makefile").write_text("VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 9\n")
    for part in (
        "Kconfig",
        "arch/Kconfig",
        "arch/x86/mm/init.c",
        "arch/arm/a.c",
        "arch/arm/crypto/Kconfig",
        "Documentation/Kconfig",
    ):
        (source / part).touch()
    for name, text in (("config", CONFIG), ("symvers", ""), ("vmlinux", BANNER)):
        (tmp_path / name).write_text(text)
    (tmp_path / "modules/kernel").mkdir(parents=True)
    (tmp_path / "modules/kernel/a.ko.gz").touch()
    (tmp_path / "modules/build").symlink_to(source)
    program(tmp_path, "gcc", f"echo '{COMPILER}'")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    return KernelSource(source, *(tmp_path / name for name in ("config", "symvers", "vmlinux", "modules")))


def program(directory: Path, name: str, script: str) -> None:
    (directory / "bin").mkdir(exist_ok=True)
    (directory / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
    (directory / "bin" / name).chmod(0o755)


def fetch(given: KernelSource, release: str = RELEASE) -> None:
    Given(Identity(release, "#1 SMP", "aa", given), given).fetch(print)


def test_parts_that_fit_are_taken(given: KernelSource) -> None:
    fetch(given)


def test_everything_that_is_missing_is_named_at_once(given: KernelSource, tmp_path: Path) -> None:
    nothing = tmp_path / "nothing"
    with pytest.raises(BuildError) as error:
        fetch(KernelSource(nothing, nothing, nothing, nothing, nothing, nothing))
    for what in ("tree", "config", "symvers", "vmlinux", "modules", "toolchain"):
        assert f"{what}: " in str(error.value)
    assert str(error.value).count(str(nothing)) == 6


def test_a_tree_that_was_built_in(given: KernelSource) -> None:
    (given.tree / "include/config").mkdir(parents=True)
    with pytest.raises(BuildError, match=r"was built in: it has include/config; .*make mrproper"):
        fetch(given)


def test_a_tree_of_another_version(given: KernelSource) -> None:
    (given.tree / "Makefile").write_text("VERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 9\n")
    with pytest.raises(BuildError, match=r"is the source of 6\.12\.9; give the tree.*configuration of 6\.1\.9"):
        fetch(given)


def test_a_configuration_of_another_release(given: KernelSource) -> None:
    given.config.write_text(CONFIG.replace("6.1.9", "6.1.8"))
    with pytest.raises(BuildError, match=r"config is a configuration of 6\.1\.8, but the tree is of 6\.1\.9"):
        fetch(given)


def test_a_vmlinux_of_another_release(given: KernelSource) -> None:
    given.vmlinux.write_text(BANNER.replace(RELEASE, "6.1.9-other"))
    with pytest.raises(BuildError, match=r"vmlinux is of kernel 6\.1\.9-other; give the vmlinux"):
        fetch(given)


def test_a_packed_kernel_instead_of_vmlinux(given: KernelSource) -> None:
    given.vmlinux.write_bytes(b"MZ")
    with pytest.raises(BuildError, match="is no vmlinux"):
        fetch(given)


def test_a_configuration_that_names_another_compiler_than_vmlinux(given: KernelSource) -> None:
    given.config.write_text(CONFIG.replace("Own 1-1", "Other 2-2"))
    with pytest.raises(BuildError, match=r"Other 2-2.*which vmlinux doesn't name as its compiler"):
        fetch(given)


def test_a_builder_with_another_compiler(given: KernelSource, tmp_path: Path) -> None:
    program(tmp_path, "gcc", "echo 'gcc (Own 2-2) 2'")
    with pytest.raises(BuildError, match=r"was built with 'gcc \(Own 1-1\) 1', but gcc here is 'gcc \(Own 2-2\) 2'"):
        fetch(given)


def test_settings_that_do_not_hold_are_named(given: KernelSource, tmp_path: Path) -> None:
    program(tmp_path, "make", "for w; do case $w in O=*) cd ${w#O=}; echo CONFIG_X=y >> .config; esac; done")
    parts = Given(Identity(RELEASE, "#1", "aa", given), given)
    with pytest.raises(BuildError, match="CONFIG_X is not set, would be y. Give the configuration and the tree"):
        parts._prepare(given.tree, tmp_path / "objects")


def test_what_only_the_builder_is_asked_for_may_differ(given: KernelSource, tmp_path: Path) -> None:
    parts = Given(Identity(RELEASE, "#1", "aa", given), given)
    parts._check_settings({"CONFIG_CC_VERSION_TEXT": COMPILER, "CONFIG_RUSTC_VERSION": "0"})


def test_the_copy_has_what_is_compiled_for_this_machine_and_every_kconfig(given: KernelSource, tmp_path: Path) -> None:
    Given(Identity(RELEASE, "#1", "aa", given), given)._copy(tmp_path / "source")
    copied = [path.relative_to(tmp_path / "source") for path in (tmp_path / "source").rglob("*") if path.is_file()]
    assert sorted(map(str, copied)) == [
        *("Documentation/Kconfig", "Kconfig", "Makefile", "arch/Kconfig", "arch/arm/crypto/Kconfig"),
        "arch/x86/mm/init.c",
    ]
    assert not (tmp_path / "source/.git").exists()


def test_modules_come_without_what_is_linked_beside_them(given: KernelSource, tmp_path: Path) -> None:
    Given(Identity(RELEASE, "#1", "aa", given), given).modules(tmp_path / "copy")
    assert [str(path.relative_to(tmp_path / "copy")) for path in (tmp_path / "copy").rglob("*.*")] == ["kernel/a.ko.gz"]


def test_a_tree_is_told_by_its_contents(given: KernelSource, tmp_path: Path) -> None:
    before = _digest(given.tree)
    moved = given.tree.rename(tmp_path / "moved")
    assert _digest(moved) == before
    (moved / "Makefile").write_text((moved / "Makefile").read_text().replace("9", "8"))
    assert _digest(moved) != before


def test_the_given_root_has_the_programs(given: KernelSource, tmp_path: Path) -> None:
    kernel = Identity(RELEASE, "#1", "aa", given._replace(toolchain=tmp_path))
    assert tools(tmp_path, kernel, "", COMPILER) == toolchain.Toolchain(tmp_path)


def test_other_paths_are_prepared_anew(given: KernelSource, tmp_path: Path) -> None:
    root = tree.kernel_directory(tmp_path, RELEASE)
    for part in ("objects/Module.symvers", "objects/.config", "vmlinux"):
        (root / part).parent.mkdir(parents=True, exist_ok=True)
    (root / "objects/.config").write_text(CONFIG)
    (root / "objects/Module.symvers").touch()
    (root / "vmlinux").write_bytes(f"\0{RELEASE} SMP mod_unload \0".encode())
    kernel = Identity(RELEASE, "#1", "aa", given)
    tree._write_facts(root, kernel, "tree-1")
    found = tree.look(tmp_path, kernel)
    assert found is not None
    assert (found.package, found.vermagic) == ("tree-1", f"{RELEASE} SMP mod_unload ")
    other = given._replace(config=tmp_path / "other")
    assert tree.look(tmp_path, kernel._replace(source=other)) is None
    assert tree.look(tmp_path, kernel._replace(source=None)) is None


def test_modules_and_exports_of_another_build(given: KernelSource, tmp_path: Path) -> None:
    kernel = Identity(RELEASE, "#1", "aa", given)
    (tmp_path / "x.c").write_text('const char v[] __attribute__((section(".modinfo"))) = "vermagic=6.1.9-other SMP ";')
    (tmp_path / "some").mkdir()
    run(["gcc-12" if Path("/usr/bin/gcc-12").exists() else "cc", "-c", tmp_path / "x.c", "-o", tmp_path / "some/x.ko"])
    with pytest.raises(BuildError, match=r"x\.ko is a module of '6\.1\.9-other': the mend"):
        tree._check_modules(tmp_path / "some", kernel, "the mend")
    (tmp_path / "some/x.ko").rename(tmp_path / "vmlinux")
    (tmp_path / "objects").mkdir()
    symvers = tmp_path / "objects/Module.symvers"
    symvers.write_text("0x0\tv\tvmlinux\tEXPORT_SYMBOL\t\n")
    tree._check_symvers(tmp_path, kernel, "the mend")
    symvers.write_text("0x0\tw\tvmlinux\tEXPORT_SYMBOL\t\n0x0\tz\tnet/a\tEXPORT_SYMBOL\t\n")
    with pytest.raises(BuildError, match=r"no symbol w \(nor 0 others\), which Module.symvers lists; .*: the mend"):
        tree._check_symvers(tmp_path, kernel, "the mend")
