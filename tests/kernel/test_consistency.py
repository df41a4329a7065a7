# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The models of consistency, and transitions that take their time.

If these fail, a patch gets another consistency than it asked for; or a transition hangs for ever, ends half way, or
wakes and holds tasks that it should leave alone; or an operator is not told who is in the way.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from builder import Builder
from host import CORE, Host

LEAVE = {"function": 0, "patched_set": 1, "kernel": 2}
SWITCH = {"function": 0, "thread": 1, "kernel": 2}

MODELS = [
    "function function",
    "function kernel",
    "patched_set kernel",
    "patched_set kernel counting",
    "patched_set thread",
    "kernel thread",
    "kernel kernel",
]
STOPPING = ["patched_set kernel", "kernel kernel"]
GRADUAL = ["patched_set thread", "kernel thread"]

NOT_GIVEN = {
    "function thread": "nobody has to leave anything, so no task ever gets to a moment to switch at",
    "patched_set function": "a task that has left all functions would meet old and new ones anyway",
    "kernel function": "a task that has left the kernel would meet old and new ones anyway",
}

SLEEP = "patches/kpt_sleep"


def parameters(model: str) -> tuple[str, ...]:
    """The test module's parameters for *model*, told as sysfs tells it."""
    leave, switch, *means = model.split()
    return f"leave={LEAVE[leave]}", f"switching={SWITCH[switch]}", f"means={len(means)}"


def begin(host: Host, model: str, patch: str = "kpt_sleep") -> None:
    """Load the patch in the background, and wait until its transition is under way."""
    under_way = f'[ "$(cat {CORE}/patches/{patch}/transition 2> /dev/null)" = 1 ]'
    host.run(
        f"insmod /run/kpt/{patch}.ko {' '.join(parameters(model))} > /run/kpt/loading 2>&1 < /dev/null &\n"
        f"echo $! > /run/kpt/loader\n{_until(under_way)}"
    )


def finished(host: Host) -> bool:
    """Wait until the loader has ended; whether the patch is enabled."""
    host.run(_until("! kill -0 $(cat /run/kpt/loader) 2> /dev/null"))
    return host.run(f"cat {CORE}/{SLEEP}/enabled 2> /dev/null; :").strip() == "1"


def _until(condition: str) -> str:
    return f"for attempt in $(seq 300); do {condition} && exit 0; sleep 0.1; done; exit 1"


def blockers(host: Host, patch: str = "kpt_sleep") -> list[list[str]]:
    """Who is in the way, as soon as somebody is: tasks that are born from then on are in the new universe."""
    file = f"{CORE}/patches/{patch}/blocking"
    host.run(_until(f'[ -n "$(cat {file} 2> /dev/null)" ]'))
    return [line.split(maxsplit=2) for line in host.read(f"patches/{patch}/blocking").splitlines()]


@pytest.fixture
def patient(target: Host) -> Iterator[Host]:
    """The target, and transitions that give up after a few seconds."""
    target.run(f"echo 6000 > {CORE}/deadline_ms")
    yield target
    target.run("pkill -x kpt-hog; echo > /proc/kpt_sleep; :")


@pytest.mark.parametrize("model", MODELS)
def test_a_model_does_what_it_is_called(patient: Host, model: str) -> None:
    patient.load("kpt_sleep", *parameters(model))
    assert patient.target()["value"] == 2
    assert patient.read(f"{SLEEP}/consistency") == model
    assert patient.read(f"{SLEEP}/transition") == "0"
    assert patient.read(f"{SLEEP}/blocking") == ""
    assert int(patient.read(f"{SLEEP}/transition_ns")) > 0
    assert (int(patient.read(f"{SLEEP}/window_ns")) > 0) == (model in STOPPING)
    assert patient.set("kpt_sleep", 0), patient.refusal()
    assert patient.target()["value"] == 1
    assert patient.set("kpt_sleep", 1), patient.refusal()
    assert patient.target()["value"] == 2
    assert patient.set("kpt_sleep", 0), patient.refusal()
    patient.unload("kpt_sleep")
    assert patient.target()["value"] == 1


@pytest.mark.parametrize("model", NOT_GIVEN)
def test_what_means_nothing_is_refused_by_name(target: Host, model: str) -> None:
    leave, switch = model.split()
    assert target.refused("kpt_sleep", *parameters(model)) == (
        f"kpt_sleep: leave={leave} switch={switch} is not given: {NOT_GIVEN[model]}"
    )


@pytest.mark.parametrize("model", ["patched_set thread", "kernel thread", "kernel kernel", "function kernel"])
def test_counting_is_for_one_model(target: Host, model: str) -> None:
    assert target.refused("kpt_sleep", *parameters(f"{model} counting")) == (
        "kpt_sleep: counting is a means to leave=patched_set switch=kernel only"
    )


@pytest.mark.parametrize("model", ["function function", "function kernel"])
def test_who_is_in_the_function_does_not_matter(patient: Host, model: str) -> None:
    pid = patient.sleep_in_target()
    patient.load("kpt_sleep", *parameters(model))
    assert patient.target()["value"] == 2
    assert patient.run(f"ls -d /proc/{pid}")
    # But the patch's own code has to be left before it may be unloaded: who sleeps there is woken in the end.
    pid = patient.sleep_in_target()
    assert patient.set("kpt_sleep", 0), patient.refusal()
    assert patient.target()["value"] == 1
    patient.unload("kpt_sleep")
    patient.run(_until(f"grep -q target_sleep /proc/{pid}/stack"))


@pytest.mark.parametrize("model", ["patched_set thread", "patched_set kernel counting"])
def test_a_sleeper_is_named_and_waited_for(patient: Host, model: str) -> None:
    patient.run(f"echo 120000 > {CORE}/deadline_ms")
    pid = patient.sleep_in_target()
    begin(patient, model)
    assert [str(pid), "kpt-reader", "target_sleep"] in blockers(patient)
    # At any moment: what a step has not come to yet was in the way at the one before.
    file = f"{CORE}/patches/kpt_sleep/blocking"
    named = f"'{pid} kpt-reader target_sleep' in open('{file}').read()"
    patient.run(f'python3 -c "assert all({named} for look in range(2000))"')
    patient.run("echo > /proc/kpt_sleep")
    assert finished(patient)
    assert patient.target()["value"] == 2


@pytest.mark.parametrize("model", ["patched_set thread", "kernel thread", "kernel kernel"])
def test_a_sleeper_that_does_not_leave_is_woken_in_the_end(patient: Host, model: str) -> None:
    # Its system call is interrupted and begins anew: in the new function, where nobody wakes it.
    pid = patient.sleep_in_target()
    patient.load("kpt_sleep", *parameters(model))
    assert patient.target()["value"] == 2
    patient.run(_until(f"grep -q added_helper /proc/{pid}/stack"))


@pytest.mark.parametrize(
    "model", ["patched_set thread", "patched_set kernel counting", "kernel thread", "kernel kernel"]
)
def test_the_deadline_takes_everything_back(patient: Host, model: str) -> None:
    before = patient.target()
    pid = patient.sleep_in_target(deeply=True)
    patient.run(f"echo 2500 > {CORE}/deadline_ms")
    where = "does not leave the kernel" if model == "kernel kernel" else "is in target_sleep of kpt_target"
    assert patient.refused("kpt_sleep", *parameters(model)) == (
        f"kpt_sleep can't be enabled: task kpt-reader:{pid} {where}"
    )
    if model != "kernel kernel":
        assert "target_sleep+" in patient.run("dmesg | grep kpatch:")
    assert patient.target() == before


# Not while everything is parked: who could ask for it is parked as well.
@pytest.mark.parametrize("model", ["patched_set kernel", "patched_set kernel counting", *GRADUAL])
def test_the_opposite_reverses_a_transition(patient: Host, model: str) -> None:
    patient.run(f"echo 60000 > {CORE}/deadline_ms")
    patient.sleep_in_target(deeply=True)
    begin(patient, model)
    assert patient.set("kpt_sleep", 0), patient.refusal()
    assert not finished(patient)
    assert "the opposite was asked for meanwhile" in patient.run("dmesg | grep kpatch:")
    assert patient.target()["value"] == 1
    assert patient.run(f"ls {CORE}/patches") == ""


@pytest.mark.parametrize("model", GRADUAL)
def test_who_kills_the_writer_reverses_it(patient: Host, model: str) -> None:
    patient.run(f"echo 60000 > {CORE}/deadline_ms")
    patient.sleep_in_target(deeply=True)
    begin(patient, model)
    patient.run("kill -9 $(cat /run/kpt/loader)")
    assert not finished(patient)
    assert "who wanted it was killed" in patient.run("dmesg | grep kpatch:")
    assert patient.target()["value"] == 1


def test_who_is_killed_gets_away_even_if_the_way_back_is_blocked(patient: Host) -> None:
    patient.run(f"echo 60000 > {CORE}/deadline_ms")
    patient.sleep_in_target(deeply=True)
    begin(patient, "patched_set thread")
    blockers(patient)
    # Born after the begin, so in the new function, where it minds nothing.
    patient.run("echo 1 > /sys/module/kpt_sleep/parameters/stay")
    pid = patient.sleep_in_target(deeply=True)
    patient.run(_until(f"grep -q added_helper /proc/{pid}/stack"))
    patient.run("kill -9 $(cat /run/kpt/loader)")
    assert not finished(patient)
    assert "kpt_sleep stays loaded until it has been left" in patient.run("dmesg | grep kpatch:")
    assert patient.read(f"{SLEEP}/transition") == "1"
    assert patient.script("rmmod kpt_sleep").returncode != 0
    assert [str(pid), "kpt-reader"] in [who[:2] for who in blockers(patient)]
    # It can be joined, and who joins it can be killed as well.
    patient.run(f"echo 0 > {CORE}/{SLEEP}/enabled & sleep 1; kill -9 $!; ! wait $!")
    patient.run("echo 0 > /sys/module/kpt_sleep/parameters/stay; pkill -x kpt-reader; echo > /proc/kpt_sleep")
    patient.run(_until(f"[ $(cat {CORE}/{SLEEP}/transition) = 0 ]"))
    assert patient.target()["value"] == 1
    assert patient.read(f"{SLEEP}/enabled") == "0"
    patient.unload("kpt_sleep")


@pytest.mark.parametrize(
    "model",
    ["patched_set kernel", "patched_set kernel counting", "patched_set thread", "kernel thread", "kernel kernel"],
)
def test_a_kernel_thread_that_never_leaves_is_named(patient: Host, model: str) -> None:
    patient.run(f"echo 2000 > {CORE}/deadline_ms")
    before = patient.target()
    assert patient.refused("kpt_loop", *parameters(model)) == (
        "kpt_loop can't be enabled: task kthreadd:2 is in kthreadd of vmlinux"
    )
    assert patient.target() == before


@pytest.mark.parametrize("model", ["function function", "function kernel"])
def test_a_kernel_thread_that_need_not_leave(patient: Host, model: str) -> None:
    patient.load("kpt_loop", *parameters(model))
    assert patient.target()["value"] == 3
    assert patient.set("kpt_loop", 0), patient.refusal()
    assert patient.target()["value"] == 1


@pytest.mark.parametrize("model", GRADUAL)
def test_a_module_that_loads_during_a_transition(host: Host, model: str) -> None:
    host.run(f"echo 60000 > {CORE}/deadline_ms")
    begin(host, model, "kpt_loop")
    blockers(host, "kpt_loop")
    # Whoever loads it is born now.
    host.load("kpt_target")
    assert host.target() == {**host.target(), "value": 3, "in_init": 3}
    assert host.set("kpt_loop", 0), host.refusal()
    assert host.target()["value"] == 1
    host.unload("kpt_target")


def test_who_asks_for_the_way_back_is_not_waited_for(patient: Host) -> None:
    """It is born in the new universe, and waits in a function that the patch replaces."""
    patient.run(f"echo 60000 > {CORE}/deadline_ms")
    patient.sleep_in_target(deeply=True)
    begin(patient, "patched_set thread", "kpt_store")
    blockers(patient, "kpt_store")
    done = patient.script(f"echo 0 | tee {CORE}/patches/kpt_store/enabled")
    assert done.returncode != 0
    assert "in progress" in done.stderr
    patient.run(_until("! kill -0 $(cat /run/kpt/loader) 2> /dev/null"))
    assert "the opposite was asked for meanwhile" in patient.run("dmesg | grep kpatch:")
    assert patient.run(f"ls {CORE}/patches") == ""


def test_one_transition_at_a_time(patient: Host) -> None:
    patient.run(f"echo 60000 > {CORE}/deadline_ms")
    patient.load("kpt_first")
    patient.sleep_in_target(deeply=True)
    begin(patient, "patched_set thread")
    assert not patient.set("kpt_first", 0)
    assert patient.refusal() == "kpt_sleep is just being enabled"
    assert patient.refused("kpt_second") == "kpt_sleep is just being enabled"
    patient.run("pkill -x kpt-reader; echo > /proc/kpt_sleep")
    assert finished(patient)
    assert patient.set("kpt_first", 0)


@pytest.mark.parametrize(
    "model", ["patched_set thread", "kernel thread", "kernel kernel", "patched_set kernel counting"]
)
def test_a_hog_in_user_mode_is_no_obstacle(patient: Host, model: str) -> None:
    patient.run(
        "ln -sf $(command -v sh) /run/kpt/kpt-hog\n"
        "for hog in 1 2 3; do /run/kpt/kpt-hog -c 'while :; do :; done' > /dev/null 2>&1 < /dev/null & done"
    )
    patient.load("kpt_sleep", *parameters(model))
    assert patient.target()["value"] == 2
    assert patient.set("kpt_sleep", 0), patient.refusal()
    assert patient.target()["value"] == 1


@pytest.mark.parametrize("model", GRADUAL)
def test_newborn_tasks_are_in_the_new_universe(patient: Host, model: str) -> None:
    patient.run(f"echo 60000 > {CORE}/deadline_ms")
    patient.sleep_in_target(deeply=True)
    begin(patient, model)
    # The sleeper holds the transition up, but who is born now calls the new function.
    blockers(patient)
    assert patient.target()["value"] == 2
    assert patient.read(f"{SLEEP}/transition") == "1"
    assert patient.set("kpt_sleep", 0), patient.refusal()
    assert patient.target()["value"] == 1


def border(builder: Builder, leave: str) -> list[Path]:
    """A patch of get_signal(), which meets tasks at the border, and which fixes go into."""
    check = "\tif (unlikely(uprobe_deny_signal()))\n\t\treturn false;\n"
    diff = builder.diff("kernel/signal.c", check, f"\tif (unlikely(!ksig))\n\t\treturn false;\n{check}")
    builder.core()
    result = builder.patch("border", diff, "thread", leave=leave)
    assert result.path is not None
    return list(result.path.glob("*.ko"))


def test_a_patch_of_the_border_itself(patient: Host, builder: Builder) -> None:
    """Who is met in a function of the patch has not left it: the stacks decide, sooner or later."""
    patient.send(border(builder, "patched_set"))
    patient.load("kpatch_border")
    # Signals arrive, through the new function.
    signalled = "sh -c 'trap \"exit 7\" USR1; kill -USR1 $$; sleep 1'; [ $? = 7 ]"
    patient.run(signalled)
    name = patient.known_as("kpatch_border")
    assert patient.set(name, 0), patient.refusal()
    patient.unload(name)
    patient.run(signalled)


def test_nobody_is_seen_leaving_the_kernel_by_a_border_that_is_patched(patient: Host, builder: Builder) -> None:
    patient.run(f"echo 3000 > {CORE}/deadline_ms")
    patient.send(border(builder, "kernel"))
    assert "does not leave the kernel" in patient.refused("kpatch_border")


@pytest.mark.parametrize("value", ["", "0", "-1", "soon", "86400001"])
def test_the_deadline_is_a_number_of_milliseconds(host: Host, value: str) -> None:
    assert host.script(f"echo '{value}' > {CORE}/deadline_ms").returncode != 0
    assert host.read("deadline_ms") == "30000"
