# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A connection to hosts that are directories: what Ansible sends is counted, and the module works on the directory.

All that the controller does is done as for a host behind ssh: the same plugins, the same payloads. Only the payload's
Python is not started once more for each host: the module's work is done in the worker itself, so that what is measured
is the controller. A ping goes the same way.
"""

from __future__ import annotations

DOCUMENTATION = r"""
name: simulated
short_description: Reach a host that is a directory
version_added: 1.0.0
author:
  - kpatch.fleet contributors (@kpatch-fleet)
description:
  - Counts what is sent, one line for each operation, in the file trips.log of the directory.
options:
  roots:
    description: The directory in which each host has its own, of its name.
    required: true
    vars:
      - name: simulated_roots
extends_documentation_fragment:
  - connection_pipelining
"""

import ast
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from ansible.plugins.connection import ConnectionBase
from ansible_collections.kpatch.fleet.plugins.module_utils.host import checks, entry, transition
from ansible_collections.kpatch.fleet.plugins.module_utils.host.state import read_host
from fake_host import FakeHost

Result = dict[str, Any]


class Connection(ConnectionBase):  # type: ignore[misc]
    """Commands that bring no module along are the shell's: they make and remove directories for files."""

    transport = "simulated"
    has_pipelining = True

    def _connect(self) -> Connection:
        self._connected = True
        return self

    @property
    def _root(self) -> Path:
        return Path(self.get_option("roots")) / str(self._play_context.remote_addr)

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> tuple[int, bytes, bytes]:
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        if not in_data:
            self._count("shell", len(cmd))
            done = subprocess.run(["/bin/sh", "-c", cmd], capture_output=True, check=False)
            return done.returncode, done.stdout, done.stderr
        name, parameters = _sent(in_data.decode())
        self._count(name, len(cmd) + len(in_data))
        result = {**_MODULES[name](self._root, parameters), "invocation": {"module_args": parameters}}
        return 0, json.dumps(result).encode(), b""

    def put_file(self, in_path: str, out_path: str) -> None:
        super().put_file(in_path, out_path)
        self._count("put", Path(in_path).stat().st_size)
        shutil.copyfile(in_path, out_path)

    def fetch_file(self, in_path: str, out_path: str) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self._connected = False

    def _count(self, what: str, size: int) -> None:
        line = f"{self._play_context.remote_addr} {what} {size}\n"
        # One write each: the lines of workers that run side by side stay whole.
        handle = os.open(Path(self.get_option("roots")) / "trips.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(handle, line.encode())
        os.close(handle)


def _sent(payload: str) -> tuple[str, dict[str, Any]]:
    """The module's name and arguments, out of the call at the end of what Ansible sends."""
    call = ast.parse(payload[payload.rindex("_ansiballz_main(") :].strip()).body[0]
    assert isinstance(call, ast.Expr)
    assert isinstance(call.value, ast.Call)
    given = {word.arg: word.value for word in call.value.keywords}
    name, parameters = (ast.literal_eval(given[key]) for key in ("ansible_module", "params"))
    return name.rpartition(".")[2], json.loads(parameters)["ANSIBLE_MODULE_ARGS"]


def patchset(root: Path, parameters: dict[str, Any]) -> Result:
    """What the module of that name does, on the host in *root*."""
    host = FakeHost(root)
    host.artifacts = {one["manifest"]["sha256"]: one["manifest"] for one in parameters["artifacts"]}
    loads = mock.patch.object(entry, "KernelLoader", return_value=host)
    with loads, mock.patch.object(transition, "_write", host.write):
        return entry.run("patchset", {"timeout": 30.0, **parameters}, check_mode=False, root=root)


_MODULES: dict[str, Callable[[Path, dict[str, Any]], Result]] = {
    "ping": lambda _root, parameters: {"changed": False, "ping": parameters.get("data", "pong")},
    "host_info": lambda root, _parameters: {"changed": False, "host": read_host(root)},
    "probe": lambda root, parameters: {
        "changed": False,
        "host": read_host(root),
        "checks": checks.run(root, parameters["checks"]),
    },
    "patchset": patchset,
}
