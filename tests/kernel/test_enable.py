# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Enabling and disabling.

If these fail, a host that reports a patch as enabled runs the old function, or the other way round; or a patch
module is unloaded while the kernel still jumps into it, which is a crash.
"""

from __future__ import annotations

from host import CORE, Host

CMDLINE = "/proc/cmdline"
OURS = "this is kpt_first"


def test_enabling_and_disabling_change_what_the_kernel_does(host: Host) -> None:
    original = host.read(CMDLINE)
    host.load("kpt_first")
    assert host.read(CMDLINE) == OURS
    assert host.set("kpt_first", 0)
    assert host.read(CMDLINE) == original
    assert host.set("kpt_first", 1)
    assert host.read(CMDLINE) == OURS
    # Asked for again, nothing happens, and nothing is refused.
    assert host.set("kpt_first", 1)
    assert host.set("kpt_first", 0)
    assert host.set("kpt_first", 0)
    assert host.refusal() == ""
    host.unload("kpt_first")
    assert host.read(CMDLINE) == original


def test_an_enabled_patch_stays_in_memory(host: Host) -> None:
    host.load("kpt_first")
    assert host.script("rmmod kpt_first").returncode != 0
    assert host.read("/sys/module/kpt_first/refcnt") == "1"
    assert host.set("kpt_first", 0)
    assert host.read("/sys/module/kpt_first/refcnt") == "0"
    # The core stays too, as long as it could be called.
    assert host.script("rmmod kpatch").returncode != 0


def test_what_sysfs_says(host: Host) -> None:
    assert host.read("abi") == "4"
    assert host.read("refusal") == ""
    host.load("kpt_first")
    patch = "patches/kpt_first"
    assert host.read(f"{patch}/enabled") == "1"
    assert host.read(f"{patch}/transition") == "0"
    assert host.read(f"{patch}/consistency") == "patched_set kernel"
    assert 0 < int(host.read(f"{patch}/window_ns")) < 10**9
    assert host.read(f"{patch}/vmlinux/patched") == "1"
    known = host.run("grep ' cmdline_proc_show' /proc/kallsyms")
    addresses = {int(line.split()[0], 16): line for line in known.splitlines()}
    function = f"{patch}/vmlinux/cmdline_proc_show,0"
    assert "[kpt_first]" not in addresses[int(host.read(f"{function}/old_addr"), 16)]
    assert "[kpt_first]" in addresses[int(host.read(f"{function}/new_addr"), 16)]
    assert host.run(f"stat -c %a {CORE}/{function}/*_addr").split() == ["400", "400"]
    assert host.set("kpt_first", 0)
    assert host.read(f"{patch}/enabled") == "0"
    assert host.read(f"{patch}/vmlinux/patched") == "0"
    host.unload("kpt_first")
    assert host.run(f"ls {CORE}/patches") == ""


def test_the_kernel_is_tainted_as_live_patched(host: Host) -> None:
    host.load("kpt_first")
    # Whether it is tainted as unsigned besides is for the kernel's configuration to say.
    out_of_tree, live_patch = 1 << 12, 1 << 15
    wanted = out_of_tree | live_patch
    assert int(host.read("/proc/sys/kernel/tainted")) & wanted == wanted
    assert "K" in host.read("/sys/module/kpt_first/taint")


def test_the_newest_of_two_patches_wins(host: Host) -> None:
    original = host.read(CMDLINE)
    host.load("kpt_first")
    host.load("kpt_second")
    assert host.read(CMDLINE) == "this is kpt_second"
    # The older one goes: nothing to be seen of it.
    assert host.set("kpt_first", 0)
    assert host.read(CMDLINE) == "this is kpt_second"
    # It comes back, and is the newer one now.
    assert host.set("kpt_first", 1)
    assert host.read(CMDLINE) == OURS
    assert host.set("kpt_first", 0)
    assert host.read(CMDLINE) == "this is kpt_second"
    assert host.set("kpt_second", 0)
    assert host.read(CMDLINE) == original


def test_fifty_cycles_under_load(host: Host) -> None:
    original = host.read(CMDLINE)
    seen = host.run(
        f"""
        cd /run/kpt
        (while [ ! -e stop ]; do cat {CMDLINE}; done) > seen & reader=$!
        for cycle in $(seq 50); do
            insmod ./kpt_first.ko && echo 0 > {CORE}/patches/kpt_first/enabled && rmmod kpt_first || exit 1
        done
        touch stop; wait $reader; rm stop
        sort -u seen
        """
    ).splitlines()
    assert set(seen) == {original, OURS}
