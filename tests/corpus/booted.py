# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules of a run in the kernel that they were built for: loaded, disabled, enabled, disabled, unloaded."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import yaml
from ansible_collections.kpatch.fleet.plugins.module_utils.build import debian
from host import Host
from outcome import Outcome

_SERIES = "corpus"
_LOST = (AssertionError, subprocess.SubprocessError)  # what a Host raises if its machine does not answer
_WORDS = 60  # lines: an oops, and what came before it
_ATTEMPTS = 2  # with one module: a machine may be lost for reasons of its own


class Guest:
    """The machine of a run, with the core module in it; if it is lost another one takes its place."""

    def __init__(self, start: Callable[[], AbstractContextManager[Host]], core: Path, console: Path) -> None:
        """*console* is where the machine that *start* starts writes what it has to say."""
        self._start, self._core, self._console = start, core, console
        self._running = ExitStack()

    def __enter__(self) -> Guest:
        self._begin()
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def try_module(self, outcome: Outcome, module: str) -> None:
        """Write into *outcome* what the kernel says of its module, and how many machines were lost with it."""
        for _attempt in range(_ATTEMPTS):
            try:
                outcome.booted = try_module(self._host, outcome, module)
                return
            except _LOST as error:
                outcome.lost += 1
                outcome.booted = f"the machine was lost with it: {error}"
                print(f"{outcome.path}: the machine was lost; another one is started. Its last words:", flush=True)
                print(self._last_words(), flush=True)
                self._running.close()
                self._begin()

    def _last_words(self) -> str:
        text = self._console.read_text(encoding="utf-8", errors="replace") if self._console.is_file() else ""
        return "\n".join(text.splitlines()[-_WORDS:])

    def _begin(self) -> None:
        self._host = self._running.enter_context(self._start())
        try:
            self._host.send([self._core])
            self._host.load("kpatch")
            self._host.complaints()
        except _LOST as error:
            raise SystemExit(
                f"the machine was lost before any module was tried; the same command goes on: {error}"
            ) from error


def console(cache: Path, lab: str) -> Path:
    """Where the lab keeps what the machine's kernel has said."""
    return cache / "lab" / lab / _SERIES / "serial.log"


@contextmanager
def machine(cache: Path, lab: str, kernel: debian.DebianKernel) -> Iterator[Host]:
    """A machine of the lab that runs *kernel*; it goes away afterwards."""
    variables = {
        "lab_name": lab,
        "kpatch_cache": str(cache),
        "lab_kernels": {_SERIES: {"suite": kernel.suite, "package": kernel.image}},
        "lab_hosts": [{"name": _SERIES, "kernel": _SERIES}],
    }
    _lab({**variables, "lab_state": "absent"})
    try:
        _lab({**variables, "lab_state": "present"})
        inventory = yaml.safe_load((cache / "lab" / lab / "inventory.yml").read_text(encoding="utf-8"))
        entry = inventory["all"]["children"]["kpatch_fleet"]["hosts"][_SERIES]
        with tempfile.TemporaryDirectory(prefix="kpatch-ssh-") as control:
            yield Host(_SERIES, entry, Path(control))
    finally:
        _lab({**variables, "lab_state": "absent"})


def try_module(host: Host, outcome: Outcome, module: str) -> str:
    """The life of one patch module; "ok", or what went wrong."""
    target = Path(outcome.module)
    host.send([target])
    find = (
        f"name=$(grep -oE '^{target.stem}_x[0-9a-f]+' /proc/modules); switch=/sys/kernel/kpatch/patches/$name/enabled"
    )
    script = "\n".join(
        [
            "set -e",
            f"modprobe {module} 2> /dev/null || :" if module else ":",
            f"insmod /run/kpt/{target.name} || {{ cat /sys/kernel/kpatch/refusal; exit 1; }}",
            find,
            "test $(cat $switch) = 1",
            *(f"echo {value} > $switch; test $(cat $switch) = {value}" for value in (0, 1, 0)),
            f"rmmod $name; rm /run/kpt/{target.name}",
        ]
    )
    done = host.script(script)
    complaints = host.complaints()
    host.script(f"{find}; echo 0 > $switch; rmmod $name")
    if done.returncode == 0 and not complaints:
        return "ok"
    return " ".join((done.stdout + done.stderr + complaints).split())[-400:] or f"status {done.returncode}"


def _lab(variables: dict[str, object]) -> None:
    command = ["ansible-playbook", "-i", "localhost,", "kpatch.fleet.lab", "-e", json.dumps(variables)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"the lab can't be {variables['lab_state']}:\n{done.stdout[-3000:]}{done.stderr[-2000:]}")
