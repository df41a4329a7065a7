# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Patches that must be refused at registration.

If these fail, a wrong table becomes a jump to nowhere or the wrong function of a name is replaced; or a patch gets
a weaker consistency than it asked for; or what was begun before the refusal stays behind.
"""

from __future__ import annotations

from host import CORE, Host

REFUSALS = {
    "abi": "a patch module was built for abi 5, this core has 4",
    "leave": "the tables of kpt_wrong are wrong: leave=3 switch=2 means=0 is nothing",
    "switch": "the tables of kpt_wrong are wrong: leave=1 switch=3 means=0 is nothing",
    "means": "the tables of kpt_wrong are wrong: leave=1 switch=2 means=2 is nothing",
    "missing": "symbol kpt_no_such_function,0 is not in kpt_target",
    "position": "symbol target_helper,2 is not in kpt_target",
    "ambiguous": "symbol target_twin is in kpt_target more than once: its sympos must say which",
    "common": "symbol name_show is in vmlinux more than once: its sympos must say which",
    "ninehundredth": "symbol name_show,900 is not in vmlinux",
    "notrace": "function target_notrace can't be redirected: its entry has no call to ftrace",
    "twice": "kpt_wrong replaces function target_value twice",
    "outside": "the tables of kpt_wrong are wrong: not a function of the module: the replacement of target_helper",
    "object": "the tables of kpt_wrong are wrong: given twice: object kpt_target",
    "nothing": "the tables of kpt_wrong are wrong: there is no object",
    "owner": "a patch module doesn't say which module it is",
    "objects": "the tables of kpt_wrong are wrong: not in the module: the objects",
    "replace": "the tables of kpt_wrong are wrong: neither 0 nor 1: replace",
    "checksum": "the tables of kpt_wrong are wrong: not a word: the checksum",
    "replaces": "the tables of kpt_wrong are wrong: not a name: what it replaces",
    "replaced": "the tables of kpt_wrong are wrong: not a name: what it replaces",
    "unnamed": "the tables of kpt_wrong are wrong: an object has no proper name",
    "functions": "the tables of kpt_wrong are wrong: not in the module: a table for kpt_not_loaded",
    "relocs": "the tables of kpt_wrong are wrong: not in the module: a table for kpt_not_loaded",
    "hook": "the tables of kpt_wrong are wrong: not a function of the module: a hook for kpt_not_loaded",
    "hooks": "the tables of kpt_wrong are wrong: not in the module: the hooks for kpt_not_loaded",
    "name": "the tables of kpt_wrong are wrong: a function has no proper name in kpt_target",
    "middle": "the tables of kpt_wrong are wrong: not a function of the module: the replacement of target_helper",
    "data": "the tables of kpt_wrong are wrong: not a function of the module: the replacement of target_helper",
    "force": "the tables of kpt_wrong are wrong: neither 0 nor 1: force of target_helper",
    "exit": "the tables of kpt_wrong are wrong: neither 0 nor 1: exit of target_helper",
    "other": "target_helper is not the exit function of kpt_target",
    "vmlinux": "the tables of kpt_wrong are wrong: no module's: the exit function name_show",
    "overlap": "the tables of kpt_wrong are wrong: not ascending or not in it: the masked bytes of target_helper",
    "beyond": "the tables of kpt_wrong are wrong: not ascending or not in it: the masked bytes of target_helper",
    "masks": "the tables of kpt_wrong are wrong: not in the module: the original of target_helper",
}


# What was redirected before the wrong one was met is so no more: the good one finds nobody there.
ATTEMPTS = f"""
cd {CORE}
before=$(cat /proc/kpt_target)
for what in {" ".join(REFUSALS)}; do
    if insmod /run/kpt/kpt_wrong.ko what=$what 2> /dev/null; then said=accepted; else said=$(cat refusal); fi
    ! grep -q '^kpt_wrong ' /proc/modules && [ ! -e patches/kpt_wrong ] || said="$said; the patch has stayed"
    [ "$(cat /proc/kpt_target)" = "$before" ] || said="$said; a function has stayed redirected"
    insmod /run/kpt/kpt_wrong.ko what= && grep -q '^value 3$' /proc/kpt_target || said="$said; nothing works any more"
    echo 0 > patches/kpt_wrong/enabled && rmmod kpt_wrong || said="$said; the good one can't be taken away"
    echo "$what: $said"
done
"""


def test_what_is_wrong_is_named_and_nothing_stays(target: Host) -> None:
    said = dict(line.split(": ", 1) for line in target.run(ATTEMPTS, timeout=900).splitlines())
    assert said == REFUSALS


def test_it_is_said_once(target: Host) -> None:
    target.run("dmesg --clear")
    reason = target.refused("kpt_wrong", "what=beyond")
    # The shell's insmod may try twice, by file and by memory.
    said = [line for line in target.run("dmesg").splitlines() if "kpatch: refused" in line]
    assert 1 <= len(said) <= 2
    assert all(line.endswith(reason) for line in said)


def test_nonsense_to_sysfs_is_refused(host: Host) -> None:
    host.load("kpt_first")
    for nonsense in ("2", "on", "yes", "-1", "1 0", "", "10"):
        done = host.script(f"printf '{nonsense}\\n' > {CORE}/patches/kpt_first/enabled")
        assert done.returncode != 0, nonsense
        assert host.read("patches/kpt_first/enabled") == "1"
    # The shell does not tell which error it met.
    write = f"import os; os.write(os.open('{CORE}/patches/kpt_first/enabled', os.O_WRONLY), b'on')"
    assert "Errno 22" in host.script(f'python3 -c "{write}"').stderr


def test_a_livepatch_and_ours_do_not_share_a_function(host: Host) -> None:
    host.load("kpt_first")
    assert host.script("insmod /run/kpt/kpt_livepatch.ko").returncode != 0
    assert host.read("/proc/cmdline") == "this is kpt_first"
    assert host.set("kpt_first", 0)
    host.unload("kpt_first")
    host.load("kpt_livepatch")
    assert host.refused("kpt_first") == ("function cmdline_proc_show is redirected by someone else, maybe a livepatch")
    assert host.read("/proc/cmdline") == "this is kpt_livepatch"
