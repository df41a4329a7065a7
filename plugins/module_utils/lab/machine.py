# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a lab VM is made of: the QEMU command line, and the accelerator that this machine really has."""

# run_command(), which pylint would have, is AnsibleModule's; this runs without one, too.
# pylint: disable=ansible-bad-function
from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import socket
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.kpatch.fleet.plugins.module_utils.lab.base import (
    LabError,
    digest,
    read_json,
    run,
    tail,
    write_whole,
)

QEMU = "qemu-system-x86_64"
DISK, SERIAL, MONITOR, LOG, PID = "disk.qcow2", "serial.log", "qmp.sock", "qemu.log", "pid"
GUEST_ADDRESS = "10.0.2.15"
_MEND = "install the package qemu-system-x86"
_PROBE_SECONDS = 20
_LAUNCH_SECONDS = 60
_PORT_TAKEN = "Could not set up host forwarding rule"


class PortTakenError(LabError):
    """Between choosing a port and listening on it, somebody else did."""


@dataclass(frozen=True)
class Machine:
    """The virtual hardware. A saved state fits only the machine that it was saved on."""

    accel: str
    memory: int
    cpus: int

    def arguments(self) -> list[str]:
        """The QEMU arguments for this hardware, disk and network excepted."""
        return [
            *("-nodefaults", "-no-user-config", "-display", "none"),
            *("-machine", "q35", "-cpu", self._cpu(), "-smp", str(self.cpus), "-m", str(self.memory)),
            *("-accel", f"tcg,thread={self._threads()},tb-size=64" if self.accel == "tcg" else self.accel),
            *("-rtc", "base=utc,clock=host"),
        ]

    def _threads(self) -> str:
        # Emulated side by side, processors now and then run into a breakpoint that the kernel has taken out of its
        # text already ("Oops: int3"). In turns they don't.
        return "multi" if self.cpus == 1 else "single"

    def _cpu(self) -> str:
        # QEMU 7.2 computes the flags after a cmpxchg16b out of some that it has not written down yet: they are garbage
        # until the next arithmetic. From 6.12 on kmalloc() uses it, and if an interrupt comes just then the kernel dies
        # of a double fault. A processor without it is served in another way.
        return "qemu64,-cx16" if self.accel == "tcg" else "host"


@dataclass(frozen=True)
class Boot:
    """What QEMU boots directly."""

    vmlinuz: Path
    initrd: Path | None
    append: str = ""

    def arguments(self) -> list[str]:
        """The QEMU arguments for it."""
        line = ["root=/dev/vda", "rw", "console=ttyS0", "net.ifnames=0", *clock_arguments(_cpuinfo())]
        line += [self.append] if self.append else []
        initrd = ["-initrd", str(self.initrd)] if self.initrd else []
        return ["-kernel", str(self.vmlinuz), *initrd, "-append", " ".join(line)]


def clock_arguments(cpuinfo: str) -> list[str]:
    """Tell the guest its clock's rate: measured while the host is busy, it would come out wrong."""
    found = re.search(r"^cpu MHz\s*:\s*([0-9.]+)", cpuinfo, re.MULTILINE)
    arguments = ["no_timer_check", "tsc=reliable"]
    if found:
        arguments.append(f"tsc_early_khz={round(float(found.group(1)) * 1000)}")
    return arguments


def command(
    machine: Machine, boot: Boot, name: str, directory: Path, port: int, state: Path | None = None
) -> list[str]:
    """The command line of one VM, to be run in *directory*; with *state* it wakes up paused from there."""
    # QEMU opens the disk again when it saves its state, and by then -daemonize has put it into another directory.
    # In its options a comma is written twice.
    disk = str(directory / DISK).replace(",", ",,")
    forward = f"hostfwd=tcp:127.0.0.1:{port}-{GUEST_ADDRESS}:22"
    argv = [
        QEMU,
        *("-name", f"kpatch-lab-{name}"),
        *machine.arguments(),
        *boot.arguments(),
        *("-drive", f"file={disk},format=qcow2,if=none,id=disk,cache=unsafe,discard=unmap"),
        *("-device", "virtio-blk-pci,drive=disk"),
        *("-netdev", f"user,id=net,restrict=on,{forward}", "-device", "virtio-net-pci,netdev=net,romfile="),
        *("-device", "virtio-rng-pci"),
        *("-chardev", f"file,id=serial,path={SERIAL},append=on", "-serial", "chardev:serial"),
        *("-qmp", f"unix:{MONITOR},server=on,wait=off"),
        # The full path is what tells this process from all others.
        *("-daemonize", "-pidfile", str(directory / PID)),
    ]
    if state is not None:
        argv += ["-incoming", f"exec:cat {shlex.quote(str(state))}"]
    return argv


def launch(argv: list[str], directory: Path) -> None:
    """Start a VM that outlives this process; return once QEMU has set it up."""
    log = directory / LOG
    with log.open("w") as stream:
        try:
            result = subprocess.run(
                argv,
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                timeout=_LAUNCH_SECONDS,
                check=False,
            )
        except FileNotFoundError as error:
            raise LabError(f"'{QEMU}' is not installed; {_MEND}") from error
        except subprocess.TimeoutExpired as error:
            raise LabError(f"{directory}: QEMU didn't come up within {_LAUNCH_SECONDS} s, see {log}") from error
    if result.returncode != 0 and _PORT_TAKEN in log.read_text(errors="replace"):
        raise PortTakenError(f"{directory}: somebody else took the VM's ssh port")
    if result.returncode != 0:
        raise LabError(f"{directory}: QEMU refused to start: {tail(log.read_text(errors='replace'))}")


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def qemu_version() -> str:
    """The first line of `qemu --version`: a saved state is only trusted to the QEMU that wrote it."""
    return run([QEMU, "--version"], _MEND).splitlines()[0]


def choose_accel(asked: str, boot: Boot, cache: Path) -> str:
    """The accelerator to use: 'auto' takes KVM only if a real kernel was seen starting under it."""
    if asked != "auto":
        return asked
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    # A probe that fails takes long: its answer holds until this machine boots again.
    answer = cache / "states" / f"accel-{digest([_boot_id(), qemu_version()])}.json"
    if (known := read_json(answer)) is None:
        known = "kvm" if _boots(Machine("kvm", 256, 1), boot) else "tcg"
        answer.parent.mkdir(parents=True, exist_ok=True)
        write_whole(answer, json.dumps(known) + "\n")
    return str(known)


def _boots(machine: Machine, boot: Boot) -> bool:
    """Whether a kernel comes to its first console line on *machine*, within a short time."""
    argv = [QEMU, *machine.arguments(), "-kernel", str(boot.vmlinuz), "-no-reboot"]
    argv += ["-append", "console=ttyS0 earlyprintk=ttyS0 panic=-1", "-chardev", "file,id=serial,path=serial.log"]
    argv += ["-serial", "chardev:serial"]
    with tempfile.TemporaryDirectory() as directory:
        # It runs out of time at a device node that is there and does nothing.
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(
                argv, cwd=directory, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PROBE_SECONDS, check=False
            )
        log = Path(directory) / "serial.log"
        return log.exists() and "Kernel panic - not syncing" in log.read_text(errors="replace")


def _cpuinfo() -> str:
    return Path("/proc/cpuinfo").read_text(encoding="utf-8")


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
