# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each step of registration, enabling and deferred patching made to fail in turn, in a core built for that.

If these fail, a host that ran out of memory at the wrong moment is left with half a patch, or a module's load is
refused for ever after, or the core module can't be unloaded any more.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from host import CORE, Host
from models import MODELS, Model

_AT = "/sys/module/kpatch/parameters/fault_at"
_STAYS = "/sys/module/kpatch/parameters/fault_stays"
_MISS = "/sys/module/kpatch/parameters/miss_calls"
_MOST = 200

# One attempt after the other, each with a later fault, until none is met; what must be so after each that failed.
_LOOP = """
cd /run/kpt
for n in $(seq {most}); do
    echo $n > {at}
    if {attempt} 2> /dev/null; then
        [ $(cat {at}) -gt 0 ] && echo $n && exit 0
        # The step did without what it could not have.
        echo 0 > {at}; {undo} || exit 3; continue
    fi
    [ $(cat {at}) -eq 0 ] || {{ echo "refused at $n without a fault: $(cat {core}/refusal)"; exit 4; }}
    {check} || {{ echo "after fault $n: $(dmesg | tail -n 3)"; exit 5; }}
done
exit 6
"""
_ORIGINAL = "grep -q ^Linux /proc/version && [ \"$(sed -n 's/^value //p' /proc/kpt_target)\" = 1 ]"
_NO_SITES = "! grep -qE 'version_proc_show|target_value' /sys/kernel/tracing/enabled_functions"


@pytest.fixture
def faulty(machine: Host) -> Iterator[Host]:
    """The kernel with the core module that can be made to fail."""
    machine.load("kpatch_faults")
    machine.run("mountpoint -q /sys/kernel/tracing || mount -t tracefs nodev /sys/kernel/tracing")
    yield machine
    machine.run(f"echo 0 > {_AT}; echo 0 > {_STAYS}; echo > /proc/kpt_sleep 2> /dev/null; :")
    machine.clean()
    assert machine.complaints() == ""


def _loop(host: Host, attempt: str, undo: str, check: str) -> int:
    """How many points an attempt passes that meets no fault."""
    script = _LOOP.format(most=_MOST, at=_AT, core=CORE, attempt=attempt, undo=undo, check=check)
    return int(host.run(script)) - 1


def test_registration(faulty: Host) -> None:
    faulty.load("kpt_target")
    gone = f'! grep -q ^kpt_late /proc/modules && [ -z "$(ls {CORE}/patches)" ]'
    disable = f"echo 0 > {CORE}/patches/kpt_late/enabled && rmmod kpt_late"
    points = _loop(faulty, "insmod ./kpt_late.ko", disable, f"{gone} && {_ORIGINAL} && {_NO_SITES}")
    assert points > 15
    assert faulty.read("/proc/version") == "this is kpt_late"
    assert faulty.target()["value"] == 163


def test_enabling_again(faulty: Host) -> None:
    faulty.load("kpt_target")
    faulty.load("kpt_late")
    assert faulty.set("kpt_late", 0)
    enabled = f"{CORE}/patches/kpt_late/enabled"
    off = f"[ $(cat {enabled}) = 0 ] && [ $(cat /sys/module/kpt_late/refcnt) = 0 ]"
    points = _loop(faulty, f"echo 1 > {enabled}", f"echo 0 > {enabled}", f"{off} && {_ORIGINAL} && {_NO_SITES}")
    assert points > 10
    assert faulty.target()["value"] == 163


def test_disabling(faulty: Host) -> None:
    faulty.load("kpt_first")
    enabled = f"{CORE}/patches/kpt_first/enabled"
    on = f"[ $(cat {enabled}) = 1 ] && grep -q kpt_first /proc/cmdline"
    assert _loop(faulty, f"echo 0 > {enabled}", f"echo 1 > {enabled}", on) >= 1
    assert "kpt_first" not in faulty.read("/proc/cmdline")


def test_a_module_that_loads_later(faulty: Host) -> None:
    faulty.load("kpt_late")
    away = f"! grep -q ^kpt_target /proc/modules && [ $(cat {CORE}/patches/kpt_late/kpt_target/patched) = 0 ]"
    stays = "grep -q kpt_late /proc/version"
    no_sites = "! grep -q target_value /sys/kernel/tracing/enabled_functions"
    points = _loop(faulty, "insmod ./kpt_target.ko", "rmmod kpt_target", f"{away} && {stays} && {no_sites}")
    assert points > 8
    assert faulty.target()["in_init"] == 163


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_each_model(faulty: Host, model: Model) -> None:
    faulty.load("kpt_target")
    # Sleepers are woken after half of it.
    faulty.run(f"echo 4000 > {CORE}/deadline_ms")
    off = f"echo 0 > {CORE}/patches/kpt_sleep/enabled && rmmod kpt_sleep"
    gone = f'! grep -q ^kpt_sleep /proc/modules && [ -z "$(ls {CORE}/patches)" ]'
    points = _loop(
        faulty, f"insmod ./kpt_sleep.ko {' '.join(model.parameters())}", off, f"{gone} && {_ORIGINAL} && {_NO_SITES}"
    )
    assert points > 10
    assert faulty.target()["value"] == 2
    enabled = f"{CORE}/patches/kpt_sleep/enabled"
    on = f"[ $(cat {enabled}) = 1 ] && grep -q '^value 2' /proc/kpt_target"
    assert _loop(faulty, f"echo 0 > {enabled}", f"echo 1 > {enabled}", on) >= 1
    assert faulty.target()["value"] == 1


def _sleeps(host: Host) -> int:
    return host.sleep_in_target(deeply=True)


def _begin(host: Host, model: str) -> None:
    """Load the patch in the background; a sleeper that was there before keeps it from being enabled."""
    parameters = " ".join(next(known for known in MODELS if str(known) == model).parameters())
    file = f"{CORE}/patches/kpt_sleep/blocking"
    host.run(
        f"insmod /run/kpt/kpt_sleep.ko {parameters} > /run/kpt/loading 2>&1 < /dev/null &\n"
        f"echo $! > /run/kpt/loader\n"
        f'for attempt in $(seq 300); do [ -z "$(cat {file} 2> /dev/null)" ] || exit 0; sleep 0.1; done; exit 1'
    )


_LOADED = "for attempt in $(seq 300); do kill -0 $(cat /run/kpt/loader) 2> /dev/null || exit 0; sleep 0.1; done; exit 1"


def test_a_missed_call_begins_the_count_anew(faulty: Host) -> None:
    """If not, one missed call refuses the switch; if a return counts that is not of this count, it never comes."""
    faulty.load("kpt_target")
    _sleeps(faulty)
    _begin(faulty, "patched_set kernel counting")
    # Counted in, and woken once counting has begun anew.
    _sleeps(faulty)
    faulty.run(f"echo 3 > {_MISS}; for call in $(seq 20); do cat /proc/kpt_target > /dev/null; done; sleep 1")
    assert faulty.read(_MISS) == "0"
    assert faulty.read("patches/kpt_sleep/transition") == "1"
    faulty.run("echo > /proc/kpt_sleep")
    faulty.run(_LOADED)
    assert faulty.target()["value"] == 2, faulty.refusal()


def test_a_way_back_that_lacks_memory_holds_nobody_up(faulty: Host) -> None:
    faulty.load("kpt_target")
    pid = _sleeps(faulty)
    _begin(faulty, "patched_set thread")
    faulty.run(f"echo 1 > {_STAYS}; echo 1 > {_AT}; kill -9 $(cat /run/kpt/loader); sleep 1")
    assert faulty.read("patches/kpt_sleep/transition") == "1"
    # The mutex is free meanwhile: modules come, and sysfs answers.
    faulty.load("kpt_judge")
    assert faulty.read("patches/kpt_sleep/enabled") == "0"
    faulty.run(f"sleep 1; echo 0 > {_AT}; echo 0 > {_STAYS}")
    faulty.run(_LOADED)
    assert faulty.target()["value"] == 1
    assert faulty.run(f"ls -d /proc/{pid}")
