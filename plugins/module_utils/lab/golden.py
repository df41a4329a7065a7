# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Golden VMs: one per kernel and machine, booted once, saved while it runs, and woken up as many times as wanted."""

from __future__ import annotations

import json
import shlex
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from ansible_collections.kpatch.fleet.plugins.module_utils.lab import guest, machine, process
from ansible_collections.kpatch.fleet.plugins.module_utils.lab.base import (
    LabError,
    digest,
    locked,
    published,
    read_json,
    run,
    write_whole,
)
from ansible_collections.kpatch.fleet.plugins.module_utils.lab.image import Image
from ansible_collections.kpatch.fleet.plugins.module_utils.lab.machine import Machine
from ansible_collections.kpatch.fleet.plugins.module_utils.lab.qmp import Qmp

# Raise it when what is done to a golden VM before it is saved changes.
_RECIPE = 1
_BOOT_SECONDS = 900
_SSH_SECONDS = 120
_SAVE_SECONDS = 300
_MEMORY = "memory.state"


@dataclass(frozen=True)
class Golden:
    """A saved VM: its disk, on which clones' disks are layered, and its memory."""

    path: Path
    machine: Machine

    @property
    def disk(self) -> Path:
        return self.path / machine.DISK

    @property
    def memory(self) -> Path:
        return self.path / _MEMORY


def ensure(cache: Path, image: Image, series: str, hardware: Machine, build: bool = True) -> tuple[Golden, bool]:
    """Return the saved VM for the kernel *series* on *hardware*, and whether it had to be made.

    With *build* false (check mode) nothing is made.
    """
    release = image.kernel(series).release
    inputs = [_RECIPE, image.path.name, release, hardware.arguments(), machine.qemu_version()]
    path = cache / "states" / f"{release}-{digest(inputs)}"
    golden = Golden(path, hardware)
    with locked(cache / f"state-{path.name}.lock"):
        if (path / "state.json").exists():
            return golden, False
        if build:
            _make(golden, image, series)
    return golden, True


def open_golden(path: Path) -> Golden:
    """The saved VM that was published at *path*."""
    record = read_json(path / "state.json")
    if record is None:
        raise LabError(f"{path} is not a saved lab VM; make it with kpatch.fleet.lab_golden")
    return Golden(path, Machine(**record["machine"]))


def _make(golden: Golden, image: Image, series: str) -> None:
    with published(golden.path) as work:
        log = golden.path.parent / f"{golden.path.name}.log"
        try:
            _boot_and_save(work, golden, image, series)
        except LabError as error:
            # The work directory goes away; the console is what tells why.
            serial = work / machine.SERIAL
            if serial.exists():
                serial.replace(log)
            raise LabError(f"the golden VM for kernel {series}: {error}; its console is in {log}") from error
        write_whole(work / "state.json", json.dumps({"machine": asdict(golden.machine)}) + "\n")


def _boot_and_save(work: Path, golden: Golden, image: Image, series: str) -> None:
    overlay(work / machine.DISK, image.disk, "raw")
    access = guest.Access(machine.free_port(), image.key, work / "known_hosts")
    guest.write_known_hosts(access.known_hosts, image)
    argv = machine.command(golden.machine, image.boot(series), f"golden-{series}", work, access.port)
    try:
        machine.launch(argv, work)
        guest.wait_ready(work / machine.SERIAL, 0, _BOOT_SECONDS)
        access.run(guest.warm_script(), _SSH_SECONDS)
        save(work / machine.MONITOR, work / _MEMORY)
    finally:
        process.terminate(work / machine.PID)


def save(monitor: Path, memory: Path) -> None:
    """Stop the VM behind *monitor*, write its memory and devices into *memory*, and end it."""
    with Qmp(monitor) as qmp:
        qmp.execute("stop")
        # The default limit of 32 MB/s is meant for networks.
        qmp.execute("migrate-set-parameters", **{"max-bandwidth": 1 << 34})
        qmp.execute("migrate", uri=f"exec:cat > {shlex.quote(str(memory))}")
        deadline = time.monotonic() + _SAVE_SECONDS
        while (status := qmp.execute("query-migrate")).get("status") != "completed":
            if status.get("status") in ("failed", "cancelled") or time.monotonic() > deadline:
                raise LabError(f"its state could not be saved: {status}; is the disk of {memory.parent} full?")
            time.sleep(0.1)
        qmp.execute("quit")


def overlay(disk: Path, backing: Path, backing_format: str) -> None:
    """Make the qcow2 *disk*, empty, on top of *backing*."""
    argv = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(backing), "-F", backing_format, str(disk)]
    run(argv, "install the package qemu-utils, and look whether the disk is full")
