# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs in the booted kernel: measures the core module against the kernel's own means, in one boot; prints JSON.

Its argument is JSON: tasks and functions (how many, lists), repeats, models (name to parameters of insmod). What is
compared is measured by turns, so that noise from outside hits both.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sysfs import put

MODULES = Path("/run/kpt")
PATCH = Path("/sys/kernel/kpatch/patches/kpt_benchpatch")
FORGET = Path("/sys/module/kpatch/parameters/forget_cleared")
LIVE = Path("/sys/kernel/livepatch/kpt_benchlive")
_PATIENCE = 120
_SLEEPERS, _HOGS = 10, 2
# What transitions switch.
_COUNT = 10


def say(what: str) -> None:
    """Progress; the result goes to stdout."""
    print(f"{time.monotonic():8.1f} {what}", file=sys.stderr, flush=True)


def insmod(module: str, *parameters: str) -> int:
    """Load a module; nanoseconds."""
    begin = time.monotonic_ns()
    subprocess.run(["insmod", MODULES / f"{module}.ko", *parameters], check=True)
    return time.monotonic_ns() - begin


def rmmod(module: str) -> None:
    """Unload a module, as soon as its last user has left."""
    for _attempt in range(100):
        if subprocess.run(["rmmod", module], stderr=subprocess.DEVNULL, check=False).returncode == 0:
            return
        time.sleep(0.1)
    raise SystemExit(f"{module} can't be unloaded")


@contextlib.contextmanager
def loaded(module: str, *parameters: str) -> Iterator[None]:
    """A module, for a while."""
    insmod(module, *parameters)
    yield
    rmmod(module)


@contextlib.contextmanager
def patched(*parameters: str) -> Iterator[None]:
    """A patch of ours, for a while."""
    with loaded("kpt_benchpatch", *parameters):
        yield
        enable(0)


@contextlib.contextmanager
def load(busy: bool) -> Iterator[None]:
    """Processes that sleep, and those that don't if it is to be *busy*."""
    children = [child(hog=False) for _number in range(_SLEEPERS)]
    children += [child(hog=True) for _number in range(_HOGS)] if busy else []
    try:
        yield
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def child(hog: bool) -> int:
    """A process that goes into the kernel all the time, or sleeps there; its pid."""
    pid = os.fork()
    if pid == 0:
        while hog:
            os.getppid()
        signal.pause()
        os._exit(0)
    return pid


def bench() -> dict[str, int]:
    """One measurement by the module."""
    lines = Path("/proc/kpt_bench").read_text(encoding="ascii").splitlines()
    return {name: int(value) for name, value in (line.split() for line in lines)}


def enable(value: int) -> int:
    """Or disable; nanoseconds until it is so. Refused, it tries again."""
    begin = time.monotonic_ns()
    while True:
        try:
            put(PATCH / "enabled", str(value))
            return time.monotonic_ns() - begin
        except OSError:
            if time.monotonic_ns() - begin > _PATIENCE * 1e9:
                raise


@contextlib.contextmanager
def core_for_tests() -> Iterator[None]:
    """In the core's place its build that can be told to look at all stacks in the window, as without a check before."""
    rmmod("kpatch")
    insmod("kpatch_faults")
    yield
    rmmod("kpatch")
    insmod("kpatch")


def window(value: int, forget: bool) -> int:
    """Enable or disable; nanoseconds for which the machine stood."""
    put(FORGET, "Y" if forget else "N")
    enable(value)
    return int((PATCH / "window_ns").read_text())


def windows(repeats: int) -> list[dict[str, int]]:
    """How long the machine stands for nothing, for a switch, and for one that looks at all stacks, by turns."""
    found = []
    for number in range(2 * repeats):
        # Each is measured with both ways of the switch.
        order = (False, True) if number % 2 else (True, False)
        switches = {"whole" if forget else "window": window(value, forget) for value, forget in enumerate(order)}
        found.append({"empty": bench()["stop"], **switches})
    return found


def by_tasks(counts: list[int], repeats: int) -> Iterator[dict[str, Any]]:
    """The window as tasks get more, idle and busy."""
    for busy in (False, True):
        for count in counts:
            say(f"window: {count} more tasks, {'busy' if busy else 'idle'}")
            with load(busy), loaded("kpt_bench", f"sleepers={count}"), patched("count=1"):
                tasks = int(Path("/proc/loadavg").read_text(encoding="ascii").split()[3].split("/")[1])
                yield {"busy": busy, "tasks": tasks, "samples": windows(repeats)}


def by_functions(counts: list[int], repeats: int) -> Iterator[dict[str, Any]]:
    """The window as functions get more."""
    with load(False), loaded("kpt_bench"):
        for count in counts:
            say(f"window: {count} functions")
            begin = time.monotonic_ns()
            with patched(f"count={count}"):
                took = time.monotonic_ns() - begin
                yield {"functions": count, "load_ns": took, "samples": windows(repeats)}


def calls(repeats: int) -> Iterator[dict[str, Any]]:
    """A patched function's calls against its twin's, by who patched it."""
    for _turn in range(2):
        with loaded("kpt_bench"):
            yield {"by": "nobody", "samples": [bench() for _number in range(repeats)]}
            with patched("count=1"):
                yield {"by": "kpatch", "samples": [bench() for _number in range(repeats)]}
            if Path("/sys/kernel/livepatch").exists():
                live_enable(1)
                yield {"by": "livepatch", "samples": [bench() for _number in range(repeats)]}
                live_disable()


def live_enable(count: int) -> int:
    """Patch the kernel's own way; nanoseconds until all tasks have switched."""
    begin = time.monotonic_ns()
    insmod("kpt_benchlive", f"count={count}")
    while (LIVE / "transition").read_text().strip() != "0":
        time.sleep(0.005)
    return time.monotonic_ns() - begin


def live_disable() -> int:
    """The way back; nanoseconds until all tasks have switched."""
    begin = time.monotonic_ns()
    # Just enabled, it may still be busy.
    while LIVE.exists():
        with contextlib.suppress(OSError):
            put(LIVE / "enabled", "0")
            break
    while LIVE.exists():
        time.sleep(0.005)
    took = time.monotonic_ns() - begin
    rmmod("kpt_benchlive")
    return took


def ours(parameters: list[str]) -> dict[str, int]:
    """One life of a patch of ours: how long until it is on, and off."""
    on = insmod("kpt_benchpatch", f"count={_COUNT}", *parameters)
    off = enable(0)
    rmmod("kpt_benchpatch")
    return {"on": on, "off": off}


def transitions(models: dict[str, list[str]], repeats: int) -> Iterator[dict[str, Any]]:
    """How long a switch takes, by model, and by the kernel's own live patching, idle and busy."""
    for busy in (False, True):
        found: dict[str, list[dict[str, int]]] = {}
        with load(busy), loaded("kpt_bench"):
            for turn in range(repeats):
                say(f"transitions: turn {turn + 1} of {repeats}, {'busy' if busy else 'idle'}")
                for name, parameters in models.items():
                    found.setdefault(name, []).append(ours(parameters))
                if Path("/sys/kernel/livepatch").exists():
                    sample = {"on": live_enable(_COUNT), "off": live_disable()}
                    found.setdefault("livepatch", []).append(sample)
        yield from ({"busy": busy, "model": name, "samples": samples} for name, samples in found.items())


def main() -> None:
    """Measure everything."""
    asked = json.loads(sys.argv[1])
    repeats = asked["repeats"]
    with core_for_tests():
        of_window = {
            "by_tasks": list(by_tasks(asked["tasks"], repeats)),
            "by_functions": list(by_functions(asked["functions"], repeats)),
        }
    result = {
        "release": os.uname().release,
        "cpus": os.cpu_count(),
        **of_window,
        "calls": list(calls(repeats)),
        "transitions": list(transitions(asked["models"], max(repeats // 2, 1))),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
