# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Golden VMs: one per kernel and machine, booted once, saved while it runs, and woken up as many times as wanted."""

from __future__ import annotations

import json
import shlex
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ansible_collections.kpatch.fleet.plugins.module_utils.lab import guest, machine, own_kernel, process
from ansible_collections.kpatch.fleet.plugins.module_utils.lab.base import (
    LabError,
    digest,
    locked,
    need_space,
    published,
    read_json,
    run,
    write_whole,
)
from ansible_collections.kpatch.fleet.plugins.module_utils.lab.guest import Access
from ansible_collections.kpatch.fleet.plugins.module_utils.lab.image import Image, open_image
from ansible_collections.kpatch.fleet.plugins.module_utils.lab.machine import Boot, Machine
from ansible_collections.kpatch.fleet.plugins.module_utils.lab.qmp import Qmp

# Raise it when what is done to a golden VM before it is saved changes.
_RECIPE = 1
# A panic is noticed at once; a debug kernel on a busy machine is just slow.
_BOOT_SECONDS = 3600
_SAVE_SECONDS = 300
_MEMORY, _RECORD = "memory.state", "state.json"


@dataclass(frozen=True)
class Wanted:
    """Which VM to save: the kernel's series, what is appended to its command line, and the hardware.

    With *vmlinuz* that file is booted instead of a kernel of the image; the series is then just a name for it.
    """

    series: str
    append: str
    accel: str
    memory: int
    cpus: int
    vmlinuz: Path | None = None


@dataclass(frozen=True)
class Golden:
    """A saved VM: its disk, on which clones' disks are layered, its memory, and what it was booted from."""

    path: Path
    image: Path
    series: str
    append: str
    machine: Machine
    vmlinuz: Path | None = None

    def boot(self) -> Boot:
        """What QEMU was given to boot."""
        if self.vmlinuz:
            return own_kernel.boot(self.vmlinuz, self.append)
        return open_image(self.image).boot(self.series, self.append)

    @property
    def release(self) -> str:
        """What `uname -r` says in it."""
        if self.vmlinuz:
            return own_kernel.release(self.vmlinuz)
        return open_image(self.image).kernel(self.series).release

    @property
    def disk(self) -> Path:
        return self.path / machine.DISK

    @property
    def memory(self) -> Path:
        return self.path / _MEMORY

    @property
    def is_made(self) -> bool:
        return (self.path / _RECORD).exists()


def ensure(cache: Path, image: Image, wanted: Wanted, build: bool = True) -> tuple[Golden, bool]:
    """Return the saved VM for what is *wanted*, and whether it had to be made.

    With *build* false (check mode) nothing is made.
    """
    golden = _place(cache, image, wanted)
    if golden.is_made:
        return golden, False
    if build:
        with locked(cache / "states" / f".{golden.path.name}.lock"):
            # A second run waited at the lock while the first one made it.
            if golden.is_made:
                return golden, False
            _make(golden, golden.boot(), Access(machine.free_port(), image.key, image.known_hosts))
    return golden, True


def _place(cache: Path, image: Image, wanted: Wanted) -> Golden:
    """The saved VM that would be, under the name that says what it is made of."""
    golden = Golden(Path(), image.path, wanted.series, wanted.append, Machine("", 0, 0), wanted.vmlinuz)
    accel = machine.choose_accel(wanted.accel, golden.boot(), cache)
    hardware = Machine(accel, wanted.memory, wanted.cpus)
    inputs = [_RECIPE, str(image.path), wanted.append, hardware.arguments(), machine.qemu_version()]
    if wanted.vmlinuz:
        inputs.append(own_kernel.fingerprint(wanted.vmlinuz))
    return replace(golden, path=cache / "states" / f"{golden.release}-{digest(inputs)}", machine=hardware)


def open_golden(path: Path) -> Golden:
    """The saved VM that was published at *path*."""
    record = read_json(path / _RECORD)
    if record is None:
        raise LabError(f"{path} is not a saved lab VM; make it with kpatch.fleet.lab_golden")
    hardware = Machine(**record["machine"])
    vmlinuz = Path(record["vmlinuz"]) if record.get("vmlinuz") else None
    return Golden(path, Path(record["image"]), record["series"], record["append"], hardware, vmlinuz)


def _make(golden: Golden, boot: Boot, access: Access) -> None:
    need_space(golden.path.parent, golden.machine.memory * 2 * 1024**2, "a saved VM")
    with published(golden.path) as work:
        log = golden.path.parent / f"{golden.path.name}.log"
        try:
            _boot_and_save(work, golden, boot, access)
        except LabError as error:
            # The work directory goes away; the console is what tells why.
            serial = work / machine.SERIAL
            if serial.exists():
                serial.replace(log)
            raise LabError(f"the golden VM for kernel {golden.series}: {error}; its console is in {log}") from error
        vmlinuz = str(golden.vmlinuz) if golden.vmlinuz else None
        record = {**asdict(golden), "path": None, "image": str(golden.image), "vmlinuz": vmlinuz}
        write_whole(work / _RECORD, json.dumps(record) + "\n")


def _boot_and_save(work: Path, golden: Golden, boot: Boot, access: Access) -> None:
    overlay(work / machine.DISK, open_image(golden.image).disk, "raw")
    argv = machine.command(golden.machine, boot, f"golden-{golden.series}", work, access.port)
    try:
        machine.launch(argv, work)
        guest.wait_ready(work / machine.SERIAL, 0, _BOOT_SECONDS)
        access.run(guest.warm_script(), guest.SSH_SECONDS)
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
