# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Speaks to one running QEMU over its monitor socket (QMP)."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from ansible_collections.kpatch.fleet.plugins.module_utils.lab.base import LabError

_ANSWER_WITHIN = 30.0


class Qmp:
    """A connection to the monitor at *path*, open while the `with` block runs."""

    def __init__(self, path: Path, timeout: float = _ANSWER_WITHIN) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        self._stream = self._socket.makefile("rw", encoding="utf-8")

    def __enter__(self) -> Qmp:
        try:
            self._connect()
        except OSError as error:
            self._close()
            raise LabError(f"{self._path}: QEMU's monitor can't be reached ({error})") from error
        self._receive()
        self.execute("qmp_capabilities")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def execute(self, command: str, **arguments: Any) -> Any:
        """Run one monitor command and return its answer; events that come in between are passed over."""
        try:
            self._stream.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
            self._stream.flush()
        except OSError as error:
            raise LabError(f"{self._path}: QEMU went away before '{command}' ({error})") from error
        while True:
            message = self._receive()
            if "error" in message:
                raise LabError(f"{self._path}: '{command}' failed: {message['error'].get('desc')}")
            if "return" in message:
                return message["return"]

    def status(self) -> str:
        """What the VM does now: running, paused, inmigrate, …"""
        return str(self.execute("query-status")["status"])

    def wait_status(self, wanted: str, passing: str, timeout: float) -> None:
        """Wait until the status is *wanted*; anything but *passing* on the way is an error."""
        deadline = time.monotonic() + timeout
        while (status := self.status()) != wanted:
            if status != passing or time.monotonic() > deadline:
                raise LabError(f"{self._path}: the VM is '{status}' and not '{wanted}'")
            time.sleep(0.1)

    def _connect(self) -> None:
        # A socket's path may be 107 bytes long and lab directories may be deeper: go by the open directory.
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._socket.connect(f"/proc/self/fd/{directory}/{self._path.name}")
        finally:
            os.close(directory)

    def _receive(self) -> dict[str, Any]:
        try:
            line = self._stream.readline()
            message = json.loads(line)
        except OSError as error:
            raise LabError(f"{self._path}: QEMU doesn't answer ({error})") from error
        except ValueError as error:
            raise LabError(f"{self._path}: QEMU closed the connection") from error
        if not isinstance(message, dict):
            raise LabError(f"{self._path}: not a QMP answer: {line!r}")
        return message

    def _close(self) -> None:
        self._stream.close()
        self._socket.close()
