# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts the patches on again that a kernel had when the host went down; run once at each boot, without Ansible.

Each load is counted on disk before it is tried, and forgotten once the kernel has lived through it: after three boots
that ended in between nothing is loaded any more. kpatch.fleet=off on the kernel's command line switches it off.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from ansible_collections.kpatch.fleet.plugins.module_utils.host.errors import HostError, from_oserror
from ansible_collections.kpatch.fleet.plugins.module_utils.host.files import read_text, subdirectories
from ansible_collections.kpatch.fleet.plugins.module_utils.host.loader import KernelLoader, Loader
from ansible_collections.kpatch.fleet.plugins.module_utils.host.lock import host_lock
from ansible_collections.kpatch.fleet.plugins.module_utils.host.staging import Staging
from ansible_collections.kpatch.fleet.plugins.module_utils.host.state import read_host
from ansible_collections.kpatch.fleet.plugins.module_utils.host.transition import Transition
from ansible_collections.kpatch.fleet.plugins.module_utils.host.upgrade import mend, staged_part

SWITCH = "kpatch.fleet=off"
MOST_ATTEMPTS = 3
# How long a kernel has to live after the last load for the loads to count as survived.
SETTLE = 10.0
_TIMEOUT = 60.0


def put_on(root: Path, loader: Loader, settle: float = SETTLE) -> str:
    """Bring the running kernel to what it had, and say what was done. HostError if that can't or must not be."""
    if SWITCH in (read_text(root / "proc/cmdline") or "").split():
        return f"nothing is loaded: {SWITCH} is on the kernel's command line"
    with host_lock(root):
        return _put_on(root, loader, settle)


def _put_on(root: Path, loader: Loader, settle: float) -> str:
    # A machine that went down within an upgrade comes up with what it had before.
    mend(root, loader, _TIMEOUT)
    release = read_host(root)["kernel"]["release"]
    staging = Staging(root, release)
    modules = staging.enabled()
    if not modules:
        return _nothing(staging, release)
    attempts = _attempts(staging, release)
    if attempts >= MOST_ATTEMPTS:
        raise HostError(
            "load-failed",
            f"{release}: nothing is loaded, since the last {attempts} boots did not live through it; roll out again, "
            f"or remove {staging.boots} to have it tried again",
        )
    _count(staging, release, attempts + 1)
    try:
        _load(root, loader, staging, modules)
        time.sleep(settle)
    finally:
        # Whoever gets here has lived through it, though it may have been refused.
        _count(staging, release, 0)
    return f"{release}: on again are {', '.join(modules)}"


def main() -> int:
    """As a unit of systemd's: what is said goes to its journal."""
    try:
        sys.stdout.write(f"{put_on(Path('/'), KernelLoader())}\n")
    except HostError as error:
        sys.stderr.write(f"{error.reason}: {error}\n")
        return 1
    return 0


def _load(root: Path, loader: Loader, staging: Staging, modules: list[str]) -> None:
    for module in modules:
        Transition(root, loader, read_host(root), staged_part(staging, module), _TIMEOUT).reach()


def _nothing(staging: Staging, release: str) -> str:
    others = [name for name in subdirectories(staging.base) if Staging(staging.root, name).enabled()]
    if others:
        return f"{release} had no patches on, but {', '.join(others)} had: this kernel needs a build and a rollout"
    return f"{release}: there is nothing to put on"


def _attempts(staging: Staging, release: str) -> int:
    """How many boots of this kernel in a row have ended before their loads counted as survived."""
    try:
        kept = json.loads(read_text(staging.boots) or "{}")
    except ValueError:
        # It was torn when the machine went down, and that was while it was being written: just before a load.
        return MOST_ATTEMPTS - 1
    attempts = kept.get("attempts") if isinstance(kept, dict) and kept.get("release") == release else 0
    return attempts if isinstance(attempts, int) else 0


def _count(staging: Staging, release: str, attempts: int) -> None:
    """Keep the number on disk, and all of it before this returns; 0 removes it."""
    path = staging.boots
    try:
        if not attempts:
            path.unlink(missing_ok=True)
        else:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                json.dump({"release": release, "attempts": attempts}, stream)
                stream.flush()
                os.fsync(stream.fileno())
        handle = os.open(staging.base, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(handle)
        os.close(handle)
    except OSError as error:
        raise from_oserror("count the boots there", error, str(path)) from error


if __name__ == "__main__":
    raise SystemExit(main())
