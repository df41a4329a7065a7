# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs in the booted kernel: a patch comes and goes under load, and memory is sampled; prints JSON.

Its arguments: the directory of the modules, and the number of cycles. The core module comes and goes with the patch.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
import time
from pathlib import Path

from sysfs import put

SAMPLES = 40
_DELETE_MODULE, _FINIT_MODULE = 176, 313
_RETRIES = 200
ENABLED = Path("/sys/kernel/kpatch/patches/kpt_swap/enabled")
_LIBC = ctypes.CDLL(None, use_errno=True)


def call(number: int, *arguments: int | bytes) -> None:
    """A system call that says what went wrong, after a while of trying."""
    for _attempt in range(_RETRIES):
        if _LIBC.syscall(number, *arguments) == 0:
            return
        error = ctypes.get_errno()
        time.sleep(0.02)
    raise OSError(error, f"{os.strerror(error)} in system call {number} {arguments!r}")


def load(path: Path) -> None:
    """As insmod does."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        call(_FINIT_MODULE, file, b"", 0)
    finally:
        os.close(file)


def unload(name: str) -> None:
    """As rmmod does."""
    call(_DELETE_MODULE, name.encode(), os.O_NONBLOCK)


def enable(value: int) -> None:
    """Or disable."""
    for _attempt in range(_RETRIES):
        with contextlib.suppress(OSError):
            put(ENABLED, str(value))
            return
        time.sleep(0.02)
    raise SystemExit(f"{ENABLED} can't be set to {value}")


def cycle(directory: Path) -> None:
    """A patch's whole life."""
    load(directory / "kpatch.ko")
    load(directory / "kpt_swap.ko")
    for value in (0, 1, 0):
        enable(value)
    unload("kpt_swap")
    unload("kpatch")


def visitors() -> list[int]:
    """Processes that run the patched functions all the time; their pids."""
    children = []
    for pauses in (0, 2, 4):
        pid = os.fork()
        if pid == 0:
            file = os.open("/proc/kpt_visit", os.O_RDONLY)
            while True:
                os.pread(file, 1, pauses)
                time.sleep(0.02)
        children.append(pid)
    return children


def sample() -> dict[str, int]:
    """Live objects of each slab cache, and pages of what is no slab; without what the kernel caches of files.

    Whatever it says of each cycle grows the system's log: a page, and its buffer head, every now and then.
    """
    os.sync()
    put(Path("/proc/sys/vm/drop_caches"), "3")
    for cache in Path("/sys/kernel/slab").glob("*/shrink"):
        with contextlib.suppress(OSError):
            cache.write_text("1")
    found = {}
    for line in Path("/proc/slabinfo").read_text(encoding="ascii").splitlines()[2:]:
        name, active = line.split()[:2]
        found[f"slab {name}"] = int(active)
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        name, value = line.split()[:2]
        if name in ("VmallocUsed:", "Percpu:"):
            found[name.rstrip(":")] = int(value)
    modules = Path("/proc/modules").read_text(encoding="ascii").splitlines()
    found["module memory"] = sum(int(line.split()[1]) for line in modules)
    found["vmalloc areas"] = len(Path("/proc/vmallocinfo").read_text(encoding="ascii").splitlines())
    return found


def main() -> None:
    """Cycles, with samples in between; the first tenth warms up what the kernel caches."""
    directory, count = Path(sys.argv[1]), int(sys.argv[2])
    children = visitors()
    samples = []
    begin = time.monotonic()
    try:
        for number in range(count):
            cycle(directory)
            if number >= count // 10 and (number + 1) % max(count // SAMPLES, 1) == 0:
                samples.append({"cycle": number + 1, **sample()})
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    print(json.dumps({"samples": samples, "seconds": time.monotonic() - begin}))


if __name__ == "__main__":
    main()
