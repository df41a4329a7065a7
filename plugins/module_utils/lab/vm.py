# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One VM of a lab: woken up from a golden VM, kept while it lives and is what was asked for, or removed.

A VM's directory is `<lab>/<name>/`. `vm.json` appears there last: without it a VM is half made and is made anew.
"""

from __future__ import annotations

import json
import shlex
import shutil
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.kpatch.fleet.plugins.module_utils.lab import golden, guest, machine, process
from ansible_collections.kpatch.fleet.plugins.module_utils.lab.base import (
    LabError,
    check_name,
    digest,
    locked,
    need_space,
    read_json,
    write_whole,
)
from ansible_collections.kpatch.fleet.plugins.module_utils.lab.image import open_image
from ansible_collections.kpatch.fleet.plugins.module_utils.lab.qmp import Qmp

# Raise it when what is done to a clone changes: running VMs are then made anew.
_RECIPE = 1
_RECORD = "vm.json"
_SPACE = 512 * 1024**2
_WAKE_SECONDS = 60
_PORT_TRIES = 5


@dataclass(frozen=True)
class Spec:
    """What was asked for: a name, the golden VM to wake up, and the kernel modules to load."""

    name: str
    golden: Path
    modules: Sequence[str]

    def __post_init__(self) -> None:
        check_name("the name of a VM", self.name)
        for module in self.modules:
            guest.check_module(module)

    def digest(self) -> str:
        """A short name for everything that, once changed, asks for a new VM."""
        return digest([_RECIPE, self.name, str(self.golden), list(self.modules)])


def ensure(lab: Path, spec: Spec, act: bool = True) -> tuple[int | None, str]:
    """Make the VM of *spec* run in *lab*; return its ssh port and why it had to be made, '' if it had not.

    With *act* false (check mode) nothing is done, and the port is None where there is none yet.
    """
    directory = lab / spec.name
    reason = _why_make(directory, spec)
    if not reason or not act:
        record = read_json(directory / _RECORD) or {}
        return (None if reason else record["port"]), reason
    with locked(lab / f".{spec.name}.lock"):
        need_space(lab, _SPACE, f"the VM '{spec.name}'")
        _clear(directory)
        directory.mkdir(parents=True)
        return _make(directory, spec), reason


def remove(lab: Path, name: str, act: bool = True) -> bool:
    """End the VM *name* of *lab* and remove what it left; return whether there was anything."""
    directory = lab / check_name("the name of a VM", name)
    if not directory.exists():
        return False
    if act:
        _clear(directory)
        (lab / f".{name}.lock").unlink(missing_ok=True)
        # The last one takes the lab's directory with it, unless something else lies there.
        with suppress(OSError):
            lab.rmdir()
    return True


def _clear(directory: Path) -> None:
    """End the VM in *directory*, if one runs, and remove the directory; refuse if it is no VM's."""
    if not directory.exists():
        return
    if any(directory.iterdir()) and not (directory / machine.DISK).exists():
        raise LabError(f"{directory} is in the way: it is not a lab VM's directory; name another lab_dir or VM")
    process.terminate(directory / machine.PID)
    shutil.rmtree(directory)


def connection(port: int, golden_path: Path) -> dict[str, Any]:
    """Ansible's variables for a VM of *golden_path* that listens on *port*."""
    image = open_image(golden.open_golden(golden_path).image)
    access = guest.Access(port, image.key, image.known_hosts)
    return connection_variables(access)


def connection_variables(access: guest.Access) -> dict[str, Any]:
    """Ansible's variables for a VM that is reached by *access*."""
    return {
        "ansible_host": "127.0.0.1",
        "ansible_port": access.port,
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(access.key),
        "ansible_ssh_common_args": shlex.join(["-F", "none", *access.options()]),
        # One ssh session for a module instead of four: under emulation each costs most of a second.
        "ansible_pipelining": True,
        "ansible_python_interpreter": "/usr/bin/python3",
    }


def _why_make(directory: Path, spec: Spec) -> str:
    """Why the VM in *directory* is not the one that was asked for; '' if it is."""
    record = read_json(directory / _RECORD)
    if record is None:
        return "half made" if directory.exists() else "new"
    if record["spec"] != spec.digest():
        return "asked for differently now"
    if process.owned(directory / machine.PID) is None:
        return "not running"
    try:
        with Qmp(directory / machine.MONITOR) as qmp:
            status = qmp.status()
    except LabError as error:
        return str(error)
    return "" if status == "running" else f"its state is '{status}'"


def _make(directory: Path, spec: Spec) -> int:
    source = golden.open_golden(spec.golden)
    try:
        golden.overlay(directory / machine.DISK, source.disk, "qcow2")
        port = _launch(directory, spec, source)
        with Qmp(directory / machine.MONITOR) as qmp:
            qmp.wait_status("paused", passing="inmigrate", timeout=_WAKE_SECONDS)
            qmp.execute("cont")
        _become(directory, spec, source, port)
    except LabError as error:
        process.terminate(directory / machine.PID)
        console = directory / machine.SERIAL
        raise LabError(
            f"the VM '{spec.name}' could not be started and does not run now: {error}; its console is in {console}"
        ) from error
    record = {"spec": spec.digest(), "port": port}
    write_whole(directory / _RECORD, json.dumps(record) + "\n")
    return port


def _launch(directory: Path, spec: Spec, source: golden.Golden) -> int:
    """Start QEMU on a port of its own; return the port."""
    boot = source.boot()
    for _attempt in range(_PORT_TRIES):
        port = machine.free_port()
        try:
            machine.launch(machine.command(source.machine, boot, spec.name, directory, port, source.memory), directory)
        except machine.PortTakenError:
            continue
        return port
    raise LabError(f"{_PORT_TRIES} free ports in a row were taken before QEMU could listen on them; run again")


def _become(directory: Path, spec: Spec, source: golden.Golden, port: int) -> None:
    """Make the clone a host of its own."""
    image = open_image(source.image)
    machine_id = uuid.uuid5(uuid.NAMESPACE_URL, str(directory)).hex
    script = guest.identity_script(spec.name, machine_id, spec.modules)
    guest.Access(port, image.key, image.known_hosts).run(script, guest.SSH_SECONDS)
