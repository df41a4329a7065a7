# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""If these fail, a VM is reachable from outside, can't wake up from its saved state, or can't be saved."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils.lab import machine
from ansible_collections.kpatch.fleet.plugins.module_utils.lab.base import LabError
from ansible_collections.kpatch.fleet.plugins.module_utils.lab.machine import Boot, Machine

HARDWARE = Machine("tcg", 384, 1)
BOOT = Boot(Path("/image/vmlinuz"), Path("/image/initrd"))


def after(argv: list[str], option: str) -> str:
    return argv[argv.index(option) + 1]


def test_only_the_loopback_interface_reaches_a_vm_and_it_reaches_nothing() -> None:
    network = after(machine.command(HARDWARE, BOOT, "web1", Path("/lab/web1"), 4242), "-netdev").split(",")
    assert "restrict=on" in network
    assert [word for word in network if word.startswith("hostfwd=")] == [
        f"hostfwd=tcp:127.0.0.1:4242-{machine.GUEST_ADDRESS}:22"
    ]


def test_a_clone_has_the_hardware_that_was_saved() -> None:
    cold = machine.command(HARDWARE, BOOT, "golden", Path("/g"), 1)
    clone = machine.command(HARDWARE, BOOT, "golden", Path("/g"), 1, state=Path("/g/memory.state"))
    assert clone[: len(cold)] == cold
    assert clone[len(cold) :] == ["-incoming", "exec:cat /g/memory.state"]


def test_a_state_in_an_odd_place_does_not_reach_the_shell_as_words() -> None:
    argv = machine.command(HARDWARE, BOOT, "web1", Path("/x"), 1, state=Path("/a b;c/memory.state"))
    assert after(argv, "-incoming") == "exec:cat '/a b;c/memory.state'"


def test_the_disk_is_named_so_that_qemu_finds_it_from_any_directory() -> None:
    drive = after(machine.command(HARDWARE, BOOT, "web1", Path("/a,b/web1"), 1), "-drive")
    assert drive.startswith("file=/a,,b/web1/disk.qcow2,format=qcow2,")


def test_what_a_host_appends_comes_last_on_the_kernel_command_line() -> None:
    boot = Boot(Path("/v"), Path("/i"), "lockdown=integrity")
    assert after(boot.arguments(), "-append").endswith(" lockdown=integrity")


def test_the_clock_rate_is_told_if_it_is_known() -> None:
    assert "tsc_early_khz=2596136" in machine.clock_arguments("model name\t: x\ncpu MHz\t\t: 2596.136\n")
    assert not [word for word in machine.clock_arguments("model name\t: x\n") if "khz" in word]


def test_a_port_that_somebody_took_is_told_from_other_failures(tmp_path: Path) -> None:
    taken = "echo \"Could not set up host forwarding rule 'tcp:127.0.0.1:1-:22'\" >&2; exit 1"
    with pytest.raises(machine.PortTakenError):
        machine.launch(["sh", "-c", taken], tmp_path)
    with pytest.raises(LabError, match="no such machine") as error:
        machine.launch(["sh", "-c", "echo no such machine >&2; exit 1"], tmp_path)
    assert not isinstance(error.value, machine.PortTakenError)


def test_without_qemu_the_package_is_named(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="qemu-system-x86"):
        machine.launch(["no-such-qemu"], tmp_path)


def test_an_accelerator_that_was_asked_for_is_not_doubted(tmp_path: Path) -> None:
    assert machine.choose_accel("kvm", BOOT, tmp_path) == "kvm"
    assert machine.choose_accel("tcg", BOOT, tmp_path) == "tcg"


def test_several_emulated_processors_take_turns_and_one_is_not_slowed_down_for_it() -> None:
    assert "thread=single" in after(Machine("tcg", 384, 2).arguments(), "-accel")
    assert "thread=multi" in after(HARDWARE.arguments(), "-accel")


def test_an_emulated_processor_lacks_what_qemu_gets_wrong() -> None:
    """Else a machine of 6.12 dies now and then, of a double fault in kmalloc()."""
    assert after(HARDWARE.arguments(), "-cpu") == "qemu64,-cx16"
    assert after(Machine("kvm", 384, 1).arguments(), "-cpu") == "host"
