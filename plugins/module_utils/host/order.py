# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An order to change a host outlives the connection that brought it; its outcome is kept until the next one.

A process of its own carries it out, so that a connection that is cut, or a controller that is killed, can't leave a
change half done. Whoever comes back reads in the file whether it is still at work, and what has come of it.
"""

from __future__ import annotations

import json
import os
import signal
import traceback
from pathlib import Path
from typing import Any, Callable

from ansible_collections.kpatch.fleet.plugins.module_utils.host.errors import HostError, from_oserror
from ansible_collections.kpatch.fleet.plugins.module_utils.host.files import read_text

Result = dict[str, Any]

# On a file system that a reboot empties: an order does not outlive the kernel that it was for.
_FILE = "run/kpatch.fleet.order.json"
# proc(5): a process that has ended and that nobody has asked for yet.
_DEAD = ("Z", "X")
_IGNORED = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)


def carry_out(order: str, work: Callable[[], Result], root: Path = Path("/")) -> Result:
    """The result of *work*, done by a process that the end of this one does not end."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _leave(order, work, root, writer)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader, "rb") as stream:
        said = stream.read()  # up to the end of the process that does the work
    return (
        dict(json.loads(said)) if said else _failure("the process that changes the host was killed; look at the host")
    )


def read(root: Path) -> dict[str, Any] | None:
    """The last order since the boot: its name ('order'), whether it is 'running', its 'result' once it has ended."""
    try:
        kept = json.loads(read_text(root / _FILE) or "null")
    except (ValueError, HostError):
        return None
    if not isinstance(kept, dict):
        return None
    alive = kept.get("result") is None and _started(root, kept.get("pid")) == kept.get("started")
    return {"order": kept.get("order"), "running": alive, "result": kept.get("result")}


def _leave(order: str, work: Callable[[], Result], root: Path, writer: int) -> None:
    """In the child: hand the work to a grandchild that has no parent, session or terminal of the connection's."""
    try:
        os.setsid()
        if os.fork():
            os._exit(0)
        for number in _IGNORED:
            signal.signal(number, signal.SIG_IGN)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(nowhere, standard)
        result = _do(order, work, root)
        os.write(writer, json.dumps(result).encode())
    finally:
        os._exit(0)


def _do(order: str, work: Callable[[], Result], root: Path) -> Result:
    try:
        _keep(root, order, None)
        result = work()
    except HostError as error:
        result = {"failed": True, "changed": False, "reason": error.reason, "msg": str(error)}
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        result = _failure(f"{type(error).__name__}: {error} ({Path(where.filename).name}, line {where.lineno})")
    try:
        _keep(root, order, result)
    except HostError as error:
        # What was done is done: that it could not be kept is told to whoever still listens.
        result.setdefault("warnings", []).append(str(error))
    return result


def _failure(message: str) -> Result:
    return {"failed": True, "changed": True, "reason": "io-error", "msg": message}


def _keep(root: Path, order: str, result: Result | None) -> None:
    """Put the order where it is looked for, by rename."""
    path = root / _FILE
    new = path.with_suffix(".new")
    kept = {"order": order, "pid": os.getpid(), "started": _started(root, os.getpid()), "result": result}
    try:
        new.unlink(missing_ok=True)
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            json.dump(kept, stream)
        new.replace(path)
    except OSError as error:
        raise from_oserror("keep the order there", error, str(path)) from error


def _started(root: Path, pid: Any) -> str | None:
    """When a process was started, which tells it from a later one with its number; None if there is none."""
    stat = read_text(root / f"proc/{pid}/stat")
    # The command, in parentheses, may hold blanks and parentheses itself; the 22nd field is the start.
    fields = (stat or "").rpartition(")")[2].split()
    return fields[19] if len(fields) > 19 and fields[0] not in _DEAD else None
