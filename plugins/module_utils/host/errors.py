# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can go wrong on one host, in a fixed vocabulary."""

from __future__ import annotations

import errno

REASONS = (
    "bad-arguments",  # an option is missing, or not what it has to be
    "bad-manifest",  # the manifest that came with the artifact is malformed
    "busy",  # a task is in the way; the message names it
    "core-in-use",  # patches are registered with the core module
    "core-mismatch",  # the core module there has another ABI than the patch needs
    "core-missing",  # the core module is not loaded
    "damaged",  # what the host keeps for its boots can't be read
    "foreign-patch",  # another live patch holds one of the functions
    "io-error",  # the system refused to read or write a file
    "load-failed",  # the kernel refused the module for some other reason
    "locked",  # another run is changing this host
    "lockdown",  # the kernel is locked down and the module is not signed
    "modules-disabled",  # kernel.modules_disabled is 1
    "needs-build",  # the store has no artifact for this kernel
    "no-space",  # the file system is full, by bytes, inodes or quota
    "not-kept",  # what ran before is not kept on the host any more
    "not-permitted",  # not root
    "older",  # a newer build of the module was here before
    "read-only",  # the file system is mounted read-only
    "signature",  # the kernel wants a valid signature
    "stalled",  # a switch did not end in time
    "switch-failed",  # the core module refused to enable or disable
    "tampered",  # the bytes are not those of the manifest
    "transfer-failed",  # the artifact did not reach the host
    "unload-failed",  # the kernel refused to unload the module
    "wrong-identity",  # what was loaded is not what the manifest says
    "wrong-kernel",  # the artifact was built for another kernel
    "wrong-vermagic",  # the module was compiled for another kernel
)

_OS_REASONS = {
    errno.ENOSPC: ("no-space", "make room there"),
    errno.EDQUOT: ("no-space", "make room there or raise the quota"),
    errno.EROFS: ("read-only", "mount it read-write"),
    errno.EACCES: ("not-permitted", "run as root (become: true)"),
    errno.EPERM: ("not-permitted", "run as root (become: true)"),
}


class HostError(Exception):
    """The host refused or can't be asked; *reason* is one of REASONS, the text names the thing and the mend."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        if reason not in REASONS:
            raise AssertionError(f"{reason!r} is not in REASONS")
        self.reason = reason


def from_oserror(what: str, error: OSError, path: str | None = None) -> HostError:
    """The HostError for a failed system call: *what* was tried, on which path, and what to do."""
    reason, mend = _OS_REASONS.get(error.errno or 0, ("io-error", "look at the host's kernel log"))
    name = path or error.filename or "?"
    return HostError(reason, f"{name}: can't {what}: {error.strerror or error}; {mend}")
