# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The operator's checks on one host: a service, a command, a URL, the load, the rate of errors in the kernel's log.

Three verdicts: 'pass', 'fail', and 'inconclusive' if the check itself could not be made. What fails is asked again
after a pause, for a second or two in which a switching kernel lets I/O and network wait.
"""

# run_command(), which pylint would have, is AnsibleModule's; this runs without one, too.
# pylint: disable=ansible-bad-function
from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Callable

from ansible_collections.kpatch.fleet.plugins.module_utils.host.errors import HostError
from ansible_collections.kpatch.fleet.plugins.module_utils.host.files import read_text
from ansible_collections.kpatch.fleet.plugins.module_utils.host.kernel_log import errors_since

Check = dict[str, Any]
Result = tuple[str, str]

_TRIES = 3
_PAUSE = 1.5
_TIMEOUT = 10.0
_MINUTE = 60.0
# systemctl(1): 4 is for a unit that is not known.
_NO_SUCH_UNIT = 4
# sh(1) and execvp(3) alike: nothing of that name can be run.
_NOT_THERE = (126, 127)


def run(root: Path, checks: list[Check]) -> list[dict[str, str]]:
    """Each check by its name, with its verdict and what was seen."""
    results = []
    for check in checks:
        verdict, detail = _insist(root, check)
        results.append({"name": str(check["name"]), "verdict": verdict, "detail": detail})
    return results


def _insist(root: Path, check: Check) -> Result:
    kind = next(kind for kind in _KINDS if check.get(kind) is not None)
    for left in reversed(range(_TRIES)):
        verdict, detail = _KINDS[kind](root, check)
        if verdict != "fail" or not left:
            return verdict, detail
        time.sleep(_PAUSE)
    raise AssertionError("not reached")


def _service(_root: Path, check: Check) -> Result:
    status, said = _execute(["systemctl", "is-active", check["service"]], check)
    if status is None or status == _NO_SUCH_UNIT:
        return "inconclusive", said or f"there is no unit {check['service']}"
    return ("pass" if status == 0 else "fail"), said or f"exit status {status}"


def _command(_root: Path, check: Check) -> Result:
    words = check["command"]
    status, said = _execute(shlex.split(words) if isinstance(words, str) else list(words), check)
    if status is None or status in _NOT_THERE:
        return "inconclusive", said
    return ("pass" if status == 0 else "fail"), f"exit status {status}" + (f": {said}" if said else "")


def _execute(words: list[str], check: Check) -> tuple[int | None, str]:
    """The exit status, None if it did not run to its end, and the last line that was printed."""
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_timeout(check),
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None, f"no end within {_timeout(check):g} s"
    except OSError as error:
        return None, f"{words[0] if words else 'nothing'}: can't be run: {error.strerror}"
    lines = done.stdout.decode("utf-8", "replace").split("\n")
    return done.returncode, next((line.strip() for line in reversed(lines) if line.strip()), "")[:200]


def _url(_root: Path, check: Check) -> Result:
    wanted = int(check.get("status") or 200)
    # A proxy would answer for the host.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(check["url"], timeout=_timeout(check)) as answer:
            status = answer.status
    except urllib.error.HTTPError as error:
        status = error.code
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return ("inconclusive" if isinstance(reason, socket.gaierror) else "fail"), f"no answer: {reason}"
    return ("pass" if status == wanted else "fail"), f"status {status}"


def _load(root: Path, check: Check) -> Result:
    text = read_text(root / "proc/loadavg")
    if not text:
        return "inconclusive", "/proc/loadavg can't be read"
    each = float(text.split()[0]) / (os.cpu_count() or 1)
    return ("pass" if each <= float(check["load"]) else "fail"), f"load {each:.2f} per processor"


def _errors(root: Path, check: Check) -> Result:
    try:
        found = errors_since(root, _MINUTE, re.compile(check.get("pattern") or ""))
    except (HostError, re.error) as error:
        return "inconclusive", str(error)
    return ("pass" if len(found) <= float(check["errors"]) else "fail"), f"{len(found)} in the last minute" + (
        f", the last one: {found[-1][:200]}" if found else ""
    )


def _timeout(check: Check) -> float:
    return float(check.get("timeout") or _TIMEOUT)


_KINDS: dict[str, Callable[[Path, Check], Result]] = {
    "service": _service,
    "command": _command,
    "url": _url,
    "load": _load,
    "errors": _errors,
}
