# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done inside a VM, through ssh: making a clone a host of its own."""

# run_command(), which pylint would have, is AnsibleModule's; this runs without one, too.
# pylint: disable=ansible-bad-function
from __future__ import annotations

import re
import shlex
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.kpatch.fleet.plugins.module_utils.lab.base import LabError, tail
from ansible_collections.kpatch.fleet.plugins.module_utils.lab.image import HOST_ALIAS, READY_MARK

_MODULE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_POLL = 0.25
# A VM that has come up answers; one with a debug kernel, on a busy machine, takes its minutes for a login.
SSH_SECONDS = 600

# What Ansible's modules import at their start; loaded once, it is in every clone's page cache.
_WARM = (
    "import argparse, ctypes, hashlib, json, locale, logging, platform, selectors, subprocess, tempfile, uuid, zipfile"
)


@dataclass(frozen=True)
class Access:
    """How to reach one VM."""

    port: int
    key: Path
    known_hosts: Path

    def options(self) -> list[str]:
        """ssh options that ask nobody, trust only this lab's host key, and notice a frozen VM."""
        options = {
            "BatchMode": "yes",
            "StrictHostKeyChecking": "yes",
            "HostKeyAlias": HOST_ALIAS,
            "UserKnownHostsFile": f'"{self.known_hosts}"',
            "GlobalKnownHostsFile": "/dev/null",
            "IdentitiesOnly": "yes",
            "ServerAliveInterval": "5",
            "ServerAliveCountMax": "3",
        }
        return [word for name, value in options.items() for word in ("-o", f"{name}={value}")]

    def command(self, timeout: int) -> list[str]:
        """The ssh command line, to which a remote command can be appended."""
        login = ["-i", str(self.key), "-p", str(self.port), "-o", f"ConnectTimeout={timeout}", "-l", "root"]
        return ["ssh", "-F", "none", *self.options(), *login, "127.0.0.1"]

    def run(self, script: str, timeout: int) -> None:
        """Run a shell *script* in the VM: one patient connection, because every abandoned one costs the guest."""
        argv = [*self.command(timeout), "sh", "-e"]
        try:
            result = subprocess.run(argv, input=script, capture_output=True, text=True, timeout=timeout, check=False)
        except subprocess.TimeoutExpired as error:
            raise LabError(f"it doesn't answer ssh on port {self.port} within {timeout} s") from error
        if result.returncode != 0:
            raise LabError(f"ssh on port {self.port} failed: {tail(result.stderr)}")


def wait_ready(serial: Path, offset: int, timeout: float) -> None:
    """Wait until the VM says on its console, beyond *offset*, that ssh answers."""
    deadline = time.monotonic() + timeout
    mark = READY_MARK.encode()
    while mark not in (text := _read_from(serial, offset)):
        if b"Kernel panic" in text:
            raise LabError("its kernel panicked while it booted")
        if time.monotonic() > deadline:
            raise LabError(f"it did not come up within {timeout:.0f} s")
        time.sleep(_POLL)


def _read_from(path: Path, offset: int) -> bytes:
    if not path.exists():
        return b""
    with path.open("rb") as stream:
        stream.seek(offset)
        return stream.read()


def warm_script() -> str:
    """What the golden VM does before its state is saved."""
    return f"python3 -c {shlex.quote(_WARM)}\nsync\n"


def identity_script(name: str, machine_id: str, modules: Sequence[str]) -> str:
    """Make a VM the host *name*: the clock first (a saved state wakes up in its past), then its names."""
    lines = [
        "date -u -s @$(cat /sys/class/rtc/rtc0/since_epoch) > /dev/null",
        f"hostname {name}",
        f"echo {name} > /etc/hostname",
        f"echo '127.0.0.1 localhost {name}' > /etc/hosts",
        f"echo {machine_id} > /etc/machine-id",
    ]
    for module in modules:
        lines.append(f"modprobe {check_module(module)}")
        # Loaded again after a reboot.
        lines.append(f"echo {module} >> /etc/modules-load.d/kpatch-lab.conf")
    return "\n".join(lines) + "\n"


def check_module(name: str) -> str:
    """Return *name* if it may name a kernel module: it becomes part of a shell command."""
    if isinstance(name, str) and _MODULE.fullmatch(name):
        return name
    raise LabError(f"{name!r} can't name a kernel module")
