# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The builder, judged by the kernel that it builds for.

If these fail, a patch module does something else than its diff says, or crashes; or an operator learns on a host what
could have been known from the diff.
"""

from __future__ import annotations

import shutil
import struct
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils.build.artifact import Result
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import RefusedError
from ansible_collections.kpatch.fleet.plugins.module_utils.build.tree import locked
from builder import Builder
from host import Host

DEMO = Path(__file__).parents[2] / "playbooks/files/demo"
MEMINFO = "fs/proc/meminfo.c"
VLAN_OPS = "net/8021q/vlan_dev.c"
VLAN_PROC = "net/8021q/vlanproc.c"
READ_WRITE = "fs/read_write.c"
SOFTIRQS = "fs/proc/softirqs.c"
PROC_UTIL = "fs/proc/util.c"


def loaded_as(result: Result) -> str:
    """What the kernel knows the artifact as; its file has the patch's own name."""
    assert result.manifest is not None
    return str(result.manifest["loaded_as"])


def demo(name: str) -> str:
    return (DEMO / f"{name}.patch").read_text(encoding="utf-8")


def test_a_patch_of_vmlinux_does_what_it_says(host: Host, core: Builder) -> None:
    result = core.patch("demo-meminfo", demo("demo-meminfo"))
    assert result.changed
    assert result.path is not None
    host.send(result.path.glob("*.ko"))
    assert "KpatchDemo" not in host.read("/proc/meminfo")
    host.load("kpatch_demo_meminfo")
    # The reserve holds at least the high watermarks of all zones (calculate_totalreserve_pages() in mm/page_alloc.c).
    pages = int(host.run("awk '/ high +[0-9]/ {sum += $2} END {print sum}' /proc/zoneinfo"))
    line = next(line for line in host.read("/proc/meminfo").splitlines() if line.startswith("KpatchDemo:"))
    assert int(line.split()[1]) >= 4 * pages > 0
    assert host.set(loaded_as(result), 0)
    assert "KpatchDemo" not in host.read("/proc/meminfo")
    host.unload(loaded_as(result))


def test_a_patch_of_a_module_waits_for_it(host: Host, core: Builder) -> None:
    result = core.patch("demo-vlan", demo("demo-vlan"))
    assert result.path is not None
    host.send(result.path.glob("*.ko"))
    host.run("rmmod 8021q 2> /dev/null; :")
    host.load("kpatch_demo_vlan")
    assert host.read(f"patches/{loaded_as(result)}/8021q/patched") == "0"
    host.run("modprobe 8021q")
    assert host.read(f"patches/{loaded_as(result)}/8021q/patched") == "1"
    assert "(KpatchDemo)" in host.read("/proc/net/vlan/config")
    host.run("rmmod 8021q")
    assert host.read(f"patches/{loaded_as(result)}/8021q/patched") == "0"
    assert host.set(loaded_as(result), 0)
    host.unload(loaded_as(result))


def test_what_is_added_to_one_module_is_called_by_another(host: Host, core: Builder) -> None:
    """8021q needs garp, whose join time only garp's own code can read."""
    added = "unsigned int kpatch_join_time(void);\nunsigned int kpatch_join_time(void) { return garp_join_time; }\n"
    time = "module_param(garp_join_time, uint, 0644);\n"
    garp = core.diff("net/802/garp.c", time, time + added)
    head = '\t\tseq_puts(seq, "VLAN Dev name\t | VLAN ID\\n");\n'
    shown = head.replace("puts", "printf").replace('ID\\n"', 'ID (%u)\\n", kpatch_join_time()')
    declared = "static int vlan_seq_show(struct seq_file *seq, void *v);\n"
    vlan = core.changes(VLAN_PROC, {head: shown, declared: f"unsigned int kpatch_join_time(void);\n{declared}"})
    result = core.patch("two-modules", garp + vlan)
    assert result.path is not None
    host.send(result.path.glob("*.ko"))
    host.run("rmmod 8021q garp 2> /dev/null; :")
    host.load("kpatch_two_modules")
    host.run("modprobe 8021q; echo 321 > /sys/module/garp/parameters/garp_join_time")
    assert "(321)" in host.read("/proc/net/vlan/config")
    assert host.set(loaded_as(result), 0)
    host.unload(loaded_as(result))
    assert "(321)" not in host.read("/proc/net/vlan/config")
    host.run("rmmod 8021q garp")


# What read() into memory of the kernel's fails with.
ERRNO = """python3 -c '
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
libc.read(os.open("/etc/hostname", os.O_RDONLY), ctypes.c_void_p(0xffff888000000000), 1)
print(os.strerror(ctypes.get_errno()))'"""


def test_code_with_a_runtime_constant_knows_its_value(host: Host, core: Builder) -> None:
    """From 6.11 on access_ok() compares with a number that the kernel writes into its code at boot."""
    check = "\tif (unlikely(!access_ok(buf, count)))\n\t\treturn -EFAULT;\n\n\tret = rw_verify_area(READ"
    result = core.patch("runtime", core.diff(READ_WRITE, check, check.replace("EFAULT", "ENOLINK")))
    assert result.manifest is not None
    assert "vfs_read" in [function["name"] for function in result.manifest["functions"]]
    assert result.path is not None
    host.send(result.path.glob("*.ko"))
    assert host.run(ERRNO).strip() == "Bad address"
    host.load("kpatch_runtime")
    assert host.run(ERRNO).strip() == "Link has been severed"
    assert host.set(loaded_as(result), 0)
    host.unload(loaded_as(result))
    assert host.run(ERRNO).strip() == "Bad address"


def livepatched(host: Host, module: str) -> None:
    """Wait until livepatch has switched the last task."""
    host.run(
        f"for i in $(seq 150); do grep -q 0 /sys/kernel/livepatch/{module}/transition && exit; sleep 0.2; done; exit 1"
    )


def unlivepatch(host: Host, module: str) -> None:
    host.run(f"echo 0 > /sys/kernel/livepatch/{module}/enabled")
    host.run(f"for i in $(seq 150); do [ -e /sys/kernel/livepatch/{module} ] || exit 0; sleep 0.2; done; exit 1")
    host.unload(module)


def test_livepatch_does_what_the_core_module_does(host: Host, core: Builder) -> None:
    result = core.patch("demo-meminfo", demo("demo-meminfo"), "thread", "auto")
    assert result.manifest is not None
    assert result.path is not None
    assert result.manifest["backend"] == "livepatch"
    host.send(result.path.glob("*.ko"))
    host.load("kpatch_demo_meminfo")
    livepatched(host, loaded_as(result))
    assert "KpatchDemo" in host.read("/proc/meminfo")
    unlivepatch(host, loaded_as(result))
    assert "KpatchDemo" not in host.read("/proc/meminfo")


def test_livepatch_of_a_module_waits_for_it(host: Host, core: Builder) -> None:
    result = core.patch("demo-vlan", demo("demo-vlan"), "thread", "livepatch")
    assert result.path is not None
    host.send(result.path.glob("*.ko"))
    host.run("rmmod 8021q 2> /dev/null; :")
    host.load("kpatch_demo_vlan")
    livepatched(host, loaded_as(result))
    host.run("modprobe 8021q")
    assert "(KpatchDemo)" in host.read("/proc/net/vlan/config")
    unlivepatch(host, loaded_as(result))
    host.run("rmmod 8021q")


ARRAY, BITMAP = "drivers/md/md.c", "drivers/md/md-bitmap.c"
MD = "/sys/block/md_kpatch/md"


def bitmap_waits_for_the_array(core: Builder) -> bool:
    """Whether sysfs shows a bitmap only once its array runs, as 7.2 does (md_bitmap_sysfs_add in drivers/md/md.c)."""
    return "md_bitmap_sysfs_add" in (core.tree.source / ARRAY).read_text(encoding="utf-8")


@pytest.mark.parametrize(("backend", "switch"), [("kpatch", "kernel"), ("livepatch", "thread")])
def test_of_a_module_s_functions_of_one_name_the_right_one_is_called(
    host: Host, core: Builder, backend: str, switch: str
) -> None:
    """md_mod has two metadata_show(): what an array's description is, and where that of its bitmap is."""
    calls = "\tif (mddev)\n\t\treturn metadata_show(mddev, page);\n"
    declared = "static noinline ssize_t metadata_show(struct mddev *mddev, char *page);\n\nstatic ssize_t\n"
    diff = "".join(
        core.diff(file, f"static ssize_t\n{head}\n{{\n{first}", f"{declared}{head}\n{{\n{first}{calls}")
        for file, head, first in (
            (ARRAY, "level_show(struct mddev *mddev, char *page)", "\tstruct md_personality *p;\n\tint ret;\n"),
            (BITMAP, "location_show(struct mddev *mddev, char *page)", "\tssize_t len;\n"),
        )
    )
    result = core.patch(f"one-name-{backend}", diff, switch, backend)
    assert result.manifest is not None
    assert result.path is not None
    host.send(result.path.glob("*.ko"))
    host.run("modprobe -r md_mod 2> /dev/null; ! grep -q '^md_mod ' /proc/modules")
    host.load(result.manifest["module"])
    host.run("modprobe md_mod && echo md_kpatch > /sys/module/md_mod/parameters/new_array")
    try:
        assert host.read(f"{MD}/metadata_version") == host.read(f"{MD}/level") == "none"
        if not bitmap_waits_for_the_array(core):
            assert host.read(f"{MD}/bitmap/metadata") == host.read(f"{MD}/bitmap/location") == "internal"
    finally:
        host.run(f"echo clear > {MD}/array_state; for i in $(seq 50); do modprobe -r md_mod && exit; sleep 0.1; done")


@pytest.mark.parametrize("its_file", ["stays", "goes"])
def test_a_function_that_moves_is_reached_from_files_that_stay(host: Host, core: Builder, its_file: str) -> None:
    """What looks up /proc/<pid> is in a third file, and calls the function where it was."""
    text = (core.tree.source / PROC_UTIL).read_text(encoding="utf-8")
    function = text[text.index("unsigned name_to_int(") :]
    fixed = function.replace("{\n", '{\n\tif (!strcmp(qstr->name, "kpatch"))\n\t\treturn 1;\n', 1)
    include = '#include "internal.h"\n'
    without = core.diff(PROC_UTIL, function, "") if its_file == "stays" else core.removal(PROC_UTIL)
    diff = without + core.diff(MEMINFO, include, f"{include}\n{fixed}")
    result = core.patch("moves", diff)
    assert result.manifest is not None
    assert [each["name"] for each in result.manifest["functions"]] == ["name_to_int"]
    assert result.path is not None
    host.send(result.path.glob("*.ko"))
    assert host.script("cat /proc/kpatch/comm").returncode != 0
    host.load("kpatch_moves")
    assert host.run("cat /proc/kpatch/comm") == host.run("cat /proc/1/comm")
    assert host.set(loaded_as(result), 0)
    host.unload(loaded_as(result))
    # What was found once is remembered for as long as the process lives.
    host.run("echo 2 > /proc/sys/vm/drop_caches")
    assert host.script("cat /proc/kpatch/comm").returncode != 0


MARK = 0x6B70


def test_a_c_file_that_another_one_includes_is_patched_in_both(host: Host, core: Builder) -> None:
    """What loads 32-bit programs is made of the file that loads the others."""
    arch = "\tif (!elf_check_arch(elf_ex))\n\t\tgoto out;\n"
    marked = f"\tif (elf_ex->e_flags == {MARK}) {{\n\t\tretval = -EUCLEAN;\n\t\tgoto out;\n\t}}\n"
    result = core.patch("elf", core.diff("fs/binfmt_elf.c", arch, arch + marked))
    assert result.manifest is not None
    assert result.path is not None
    functions = {(each["name"], each["sympos"]) for each in result.manifest["functions"]}
    assert functions == {("load_elf_binary", 1), ("load_elf_binary", 2)}
    host.send(result.path.glob("*.ko"))
    programs = [_elf(64, 62), _elf(32, 3)]  # EM_X86_64, EM_386
    assert ["Exec format error" in _executed(host, program) for program in programs] == [True, True]
    host.load("kpatch_elf")
    assert ["Structure needs cleaning" in _executed(host, program) for program in programs] == [True, True]
    assert host.set(loaded_as(result), 0)
    host.unload(loaded_as(result))


def _elf(bits: int, machine: int) -> bytes:
    """The header of a program, with the mark in its flags, that has nothing else."""
    places = "QQQ" if bits == 64 else "III"
    ident = bytes([0x7F, *b"ELF", bits // 32, 1, 1])
    return struct.pack(f"<16sHHI{places}I6H", ident, 2, machine, 1, 0, 0, 0, MARK, *[0] * 6)


def _executed(host: Host, program: bytes) -> str:
    """What comes of it; a shell would take what the kernel does not know for a script."""
    lines = [
        "import os",
        f"open('/tmp/program', 'wb').write({program!r})",
        "os.chmod('/tmp/program', 0o755)",
        "os.execv('/tmp/program', ['program'])",
    ]
    return host.script(f"python3 - << 'END'\n{chr(10).join(lines)}\nEND").stderr


def test_a_header_change_and_a_new_file(host: Host, core: Builder) -> None:
    header = core.diff("fs/proc/internal.h", "struct mempolicy;\n", "struct mempolicy;\nint kpatch_answer(void);\n")
    user = core.diff(MEMINFO, "\tsi_meminfo(&i);\n", "\tsi_meminfo(&i);\n\ti.totalram = kpatch_answer();\n")
    new = (
        "--- /dev/null\n+++ b/fs/proc/kpatch_new.c\n@@ -0,0 +1,6 @@\n+#include <linux/types.h>\n"
        '+#include "internal.h"\n+int kpatch_answer(void)\n+{\n+\treturn 42;\n+}\n'
    )
    result = core.patch("new-file", header + user + new)
    assert result.manifest is not None
    assert result.path is not None
    assert [function["name"] for function in result.manifest["functions"]] == ["meminfo_proc_show"]
    host.send(result.path.glob("*.ko"))
    host.load("kpatch_new_file")
    assert f"MemTotal: {42 * 4:14} kB" in host.read("/proc/meminfo")
    assert host.set(loaded_as(result), 0)
    host.unload(loaded_as(result))


def test_the_same_inputs_build_nothing_and_give_the_same_bytes(core: Builder, tmp_path: Path) -> None:
    first = core.patch("demo-meminfo", demo("demo-meminfo"))
    assert not core.patch("demo-meminfo", demo("demo-meminfo")).changed
    assert not core.core().changed
    other = Builder(core.kernel, core.cache, tmp_path)
    assert _but_time(other.core()) == _but_time(core.core())
    assert _but_time(other.patch("demo-meminfo", demo("demo-meminfo"))) == _but_time(first)


def test_a_cache_at_another_place_gives_the_same_bytes(core: Builder, tmp_path: Path) -> None:
    # It indexes an array, of which UBSAN has a record where the kernel has UBSAN (7.2).
    diff = core.diff(SOFTIRQS, 'seq_puts(p, "      ', 'seq_puts(p, "kpatch')
    other = Builder(core.kernel, _moved_cache(core, tmp_path / "cache"), tmp_path / "store")
    for first, again in ((core.core(), other.core()), (core.patch("record", diff), other.patch("record", diff))):
        assert first.path is not None
        assert again.changed
        assert _but_time(again) == _but_time(first)
        for module in first.path.glob("*.ko"):
            for place in (core.cache, tmp_path):
                assert str(place).encode() not in module.read_bytes()
            if "CONFIG_UBSAN" in core.tree.config() and module.name == "kpatch_record.ko":
                assert f"source/{SOFTIRQS}".encode() in module.read_bytes()


def _moved_cache(core: Builder, place: Path) -> Path:
    """The kernel's part of the cache, at another place."""
    root = place / "kernels" / core.kernel.release
    root.mkdir(parents=True)
    (place / "toolchains").symlink_to(core.cache / "toolchains")
    with locked(core.cache, core.kernel.release, print):
        for part in core.tree.root.iterdir():
            if part == core.tree.objects:
                shutil.copytree(part, root / part.name, symlinks=True)
            else:
                (root / part.name).symlink_to(part)
    return place


def _but_time(result: Result) -> dict[str, Any]:
    """What the artifact is: 'serial' is when it was built."""
    assert result.manifest is not None
    return {key: value for key, value in result.manifest.items() if key != "serial"}


@pytest.mark.parametrize(
    ("file", "old", "new", "function", "reason"),
    [
        (MEMINFO, '"meminfo", 0,', '"meminfo", 0400,', "proc_meminfo_init", "__init"),
        (VLAN_OPS, "= ethtool_op_get_link,", "= NULL,", "vlan_ethtool_ops", "data"),
        (MEMINFO, "seq_write(m,", "/* no effect */ seq_write(m,", "", "change"),
        ("fs/minix/inode.c", "f_type = sb->s_magic", "f_type = 0", "", "built"),
    ],
    ids=["init code", "static data", "no effect", "not built"],
)
def test_what_cannot_be_patched_is_named(
    core: Builder, file: str, old: str, new: str, function: str, reason: str
) -> None:
    text = (core.tree.source / file).read_text(encoding="utf-8")
    place = text.index(old)
    context = text[text.rindex("\n", 0, place) + 1 : text.index("\n", place) + 1]
    # A line that is there more than once is told by the one before it.
    if text.count(context) > 1:
        context = text[text.rindex("\n", 0, text.rindex("\n", 0, place)) + 1 : text.index("\n", place) + 1]
    diff = core.diff(file, context, context.replace(old, new))
    with pytest.raises(RefusedError) as refused:
        core.patch("refused", diff)
    found = refused.value.refusals
    assert [refusal.file for refusal in found] == ["(whole diff)" if reason == "change" else file]
    assert function in found[0].function
    assert reason in found[0].reason
    assert not (core.store / core.kernel.release / "refused").exists()


# By way of what it includes, a patch can change what is no C of the kernel's own.
@pytest.mark.parametrize(
    ("file", "old", "new", "changes", "why"),
    [
        ("arch/x86/entry/calling.h", "%r15d, %r15d", "%r15d, %r15d; nop", "arch/x86/entry/entry_64.S", "assembly"),
        ("lib/vdso/gettimeofday.c", "LOW_RES_NSEC;", "LOW_RES_NSEC + 1;", "vclock_gettime.c", "vDSO"),
        (
            "arch/x86/include/asm/suspend_64.h",
            "\tstruct pt_regs regs;\n",
            "\tunsigned long kpatch;\n\tstruct pt_regs regs;\n",
            "arch/x86/kernel/asm-offsets.c",
            "offsets in structs",
        ),
    ],
    ids=["assembly", "vDSO", "offsets"],
)
def test_what_no_patch_can_change_is_named(
    core: Builder, file: str, old: str, new: str, changes: str, why: str
) -> None:
    with pytest.raises(RefusedError) as refused:
        core.patch("refused", core.diff(file, old, new))
    found = {refusal.file: refusal.reason for refusal in refused.value.refusals if refusal.file.endswith(changes)}
    assert found
    assert all("so would it" in reason and why in reason for reason in found.values())


def test_a_diff_that_does_not_apply_is_refused(core: Builder) -> None:
    diff = demo("demo-meminfo").replace("struct sysinfo i;", "struct sysinfo j;")
    with pytest.raises(RefusedError) as refused:
        core.patch("refused", diff)
    assert [refusal.file for refusal in refused.value.refusals] == [MEMINFO]
    assert "apply" in str(refused.value)
