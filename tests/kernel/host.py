# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One booted kernel: run a shell script in it, load and unload modules, read what the core module says."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

CORE = "/sys/kernel/kpatch"
_DIRECTORY = "/run/kpt"
# Seconds; no test waits for it: it ends what hangs.
_TIMEOUT = float(os.environ.get("PATIENCE", "180"))

# Whatever a test left: sleepers, patches, those for livepatch, the target; the newest module first.
_CLEAN = f"""
pkill -x kpt-reader
for file in {CORE}/patches/*/enabled; do
    for attempt in 1 2 3; do [ ! -e $file ] || echo 0 > $file && break; sleep 1; done
done
for patch in /sys/kernel/livepatch/kp*; do
    [ -e $patch ] || continue
    echo 0 > $patch/enabled
    for attempt in $(seq 100); do [ -e $patch ] || break; sleep 0.2; done
done
for attempt in 1 2 3; do
    for module in $(grep -oE '^(kpt|kpatch)_\\w+' /proc/modules) kpatch; do rmmod $module; done
    grep -qE '^(kpt_|kpatch)' /proc/modules || break
done 2> /dev/null
! grep -E '^(kpt_|kpatch)' /proc/modules
"""

# What the kernel says when something broke.
_COMPLAINTS = (
    r"BUG:|WARNING:|UBSAN:|ODEBUG:|Oops|general protection|unable to handle|Call Trace"
    r"|kobject: |refcount_t|sysfs: cannot"
)

# The first scan finds what was only under way; nothing where the kernel has no kmemleak.
_LOST = """
cd /sys/kernel/debug 2> /dev/null || exit 0
[ -e kmemleak ] || mount -t debugfs none . 2> /dev/null
[ -e kmemleak ] || exit 0
# One that has given up for want of memory refuses.
for scan in 1 2; do echo scan > kmemleak || exit 1; sleep 6; done
cat kmemleak
"""


class Host:
    """A machine of the lab, by its entry in the lab's inventory."""

    def __init__(self, name: str, entry: dict[str, Any], control: Path) -> None:
        self.name = name
        self._ssh = [
            *("ssh", "-F", "none", "-p", str(entry["ansible_port"]), "-i", entry["ansible_ssh_private_key_file"]),
            *shlex.split(entry.get("ansible_ssh_common_args", "")),
            # One login for all: each costs an emulated machine a second.
            *("-o", "ControlMaster=auto", "-o", f"ControlPath={control}/%C", "-o", "ControlPersist=120"),
            *("-l", entry["ansible_user"], entry["ansible_host"]),
        ]

    def script(self, text: str, timeout: float = _TIMEOUT) -> subprocess.CompletedProcess[str]:
        """Run a shell script; it may fail."""
        return subprocess.run(
            [*self._ssh, "sh"], input=text, capture_output=True, text=True, timeout=timeout, check=False
        )

    def run(self, text: str, timeout: float = _TIMEOUT) -> str:
        """What a shell script prints; it must not fail."""
        done = self.script(text, timeout)
        assert done.returncode == 0, f"{self.name}: {text}\n{done.stdout}{done.stderr}"
        return done.stdout

    def send(self, files: Iterable[Path]) -> None:
        """Bring modules, and what else runs there."""
        self._unpack(files, _DIRECTORY)

    def install(self, modules: Path, release: str) -> None:
        """Bring all modules of a kernel that is not in the machine's image, so that modprobe finds them."""
        self._unpack([modules / "kernel"], f"/lib/modules/{release}")
        self.run(f"depmod {release}")

    def _unpack(self, files: Iterable[Path], directory: str) -> None:
        self.run(f"mkdir -p {directory}")
        archive = ["tar", "-c"]
        for file in files:
            archive += ["-C", str(file.parent), file.name]
        with subprocess.Popen(archive, stdout=subprocess.PIPE) as producer:
            subprocess.run([*self._ssh, f"tar -x -C {directory}"], stdin=producer.stdout, timeout=_TIMEOUT, check=True)

    def drive(self, driver: Path, *arguments: str, timeout: float) -> str:
        """What a Python script prints that runs in the machine; *timeout* in seconds."""
        self.send([driver, Path(__file__).with_name("sysfs.py")])
        return self.run(f"python3 {_DIRECTORY}/{driver.name} {shlex.join(arguments)}", timeout)

    def clean(self) -> None:
        """Take away whatever a test has loaded."""
        self.run(_CLEAN)

    def complaints(self) -> str:
        """What the kernel complained of since the last call; it forgets its log."""
        return self.run(
            f"dmesg --read-clear > {_DIRECTORY}/log; grep -E {shlex.quote(_COMPLAINTS)} {_DIRECTORY}/log; :"
        )

    def lost_memory(self) -> str:
        """What kmemleak finds that nobody can free any more."""
        return self.run(_LOST, timeout=900)

    def load(self, module: str, *parameters: str) -> None:
        """Load a module; it must not be refused."""
        self.run(f"insmod {_DIRECTORY}/{module}.ko {' '.join(parameters)}")

    def load_under_fire(self, module: str, *parameters: str, seconds: float = 120.0) -> None:
        """Load a module whose functions are in use: what is refused for that alone is tried again, for *seconds*."""
        insmod = f"insmod {_DIRECTORY}/{module}.ko {' '.join(parameters)}"
        end = time.monotonic() + seconds
        while (done := self.script(insmod)).returncode != 0:
            told = f"{self.name}: {insmod}\n{done.stdout}{done.stderr}{self.refusal()}"
            assert "Device or resource busy" in done.stderr, told
            assert time.monotonic() < end, told

    def refused(self, module: str, *parameters: str) -> str:
        """Load a module that has to be refused, and leave nothing: the core module's line about it."""
        done = self.script(f"insmod {_DIRECTORY}/{module}.ko {' '.join(parameters)}")
        assert done.returncode != 0, f"{module} was not refused"
        assert module not in self.run(f"cat /proc/modules; ls {CORE}/patches")
        return self.refusal()

    def unload(self, module: str) -> None:
        """Unload a module; it must not be refused."""
        self.run(f"rmmod {module}")

    def known_as(self, module: str) -> str:
        """What the kernel calls a patch that the builder made, once it is loaded; its file has the patch's own name."""
        return self.run(f"grep -oE '^{module}_x[0-9a-f]+' /proc/modules").strip()

    def set(self, module: str, value: int) -> bool:
        """Enable or disable a patch; False if that was refused."""
        return self.script(f"echo {value} > {CORE}/patches/{module}/enabled").returncode == 0

    def refusal(self) -> str:
        """Why the core module refused last."""
        return self.run(f"cat {CORE}/refusal").rstrip("\n")

    def read(self, path: str) -> str:
        """A file; below the core module's directory unless it is absolute."""
        return self.run(f"cat {path if path.startswith('/') else CORE + '/' + path}").rstrip("\n")

    def target(self) -> dict[str, int]:
        """What the functions of the target module return."""
        lines = (line.split() for line in self.read("/proc/kpt_target").splitlines())
        return {name: int(value) for name, value in lines}

    def sleep_in_target(self, deeply: bool = False) -> int:
        """Leave a task, named kpt-reader, asleep in a function of the target module; its pid.

        One that sleeps deeply minds no signal.
        """
        file, state = ("kpt_deep", "D") if deeply else ("kpt_sleep", "S")
        pid = int(
            self.run(
                f"ln -sf $(command -v cat) {_DIRECTORY}/kpt-reader\n"
                f"{_DIRECTORY}/kpt-reader /proc/{file} > {_DIRECTORY}/slept 2>&1 < /dev/null &\necho $!"
            )
        )
        self.run(f"for i in $(seq 50); do grep -q ' {state} ' /proc/{pid}/stat && exit; sleep 0.1; done; exit 1")
        return pid
