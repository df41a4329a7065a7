# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts modules into the kernel and takes them out, by the system calls themselves.

insmod(8) would try again with another system call, hide the errno, and be one more process.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import sys
from typing import Protocol

from ansible_collections.kpatch.fleet.plugins.module_utils.host.errors import HostError
from ansible_collections.kpatch.fleet.plugins.module_utils.host.patches import busy_reason

# arch/x86/entry/syscalls/syscall_64.tbl
_FINIT_MODULE = 313
_DELETE_MODULE = 176

# How the core module begins the line in which it tells the kernel log why it refused.
_CORE_REFUSAL = "kpatch: refused: "
# kernel/module/signing.c: whatever is wrong with a signature, the errno is EKEYREJECTED and only this line, which does
# not name the module, tells what it is. The kernel has no other words for a key that it doesn't know.
_UNTRUSTED = re.compile(r"^Loading of .* is rejected$")
_UNKNOWN_KEY = "unavailable key"

_LOAD_REASONS = {
    errno.EBUSY: ("busy", "it can't be switched on now"),
    errno.EBADMSG: ("signature", "its signature is malformed; sign it again"),
    errno.EKEYREJECTED: ("signature", "its signature is not valid or missing; sign it with a key that is trusted"),
    errno.ENOKEY: ("signature", "the kernel doesn't trust the key of its signature; enrol the key"),
    errno.ENODATA: ("signature", "it is not signed; sign it with a key that the kernel trusts"),
    errno.EPERM: ("not-permitted", "CAP_SYS_MODULE is missing, or a security module forbids it; run as root"),
    errno.ENOEXEC: ("load-failed", "its format or its relocations don't suit this kernel; build it again"),
    errno.ENOENT: ("load-failed", "a symbol or a function that it needs is not there; build it again"),
    errno.EINVAL: ("load-failed", "its tables or the versions of its symbols were refused; build it again"),
    errno.EEXIST: ("load-failed", "a module of that name is loaded already; unload it or wait for its end"),
    errno.EOPNOTSUPP: ("load-failed", "it wants what the core module can't give; build it in another way"),
    errno.ENOMEM: ("load-failed", "the kernel has not enough memory; free some and run again"),
    errno.ETXTBSY: ("io-error", "another process is writing to the file; run again"),
}


class Loader(Protocol):
    """Loads and unloads; both raise OSError with the kernel's errno."""

    def load(self, handle: int, parameters: str = "") -> None:
        """Load the module whose file is open at *handle*, with *parameters* as insmod(8) takes them."""

    def unload(self, module: str) -> None:
        """Unload *module* if nothing uses it."""


class KernelLoader:
    """The running kernel."""

    def __init__(self) -> None:
        machine = os.uname().machine
        if machine != "x86_64" or sys.maxsize <= 1 << 32:
            raise HostError("load-failed", f"modules can be loaded by a 64-bit Python on x86_64 only, not on {machine}")
        self._libc = ctypes.CDLL(None, use_errno=True)

    def load(self, handle: int, parameters: str = "") -> None:
        """finit_module(2)."""
        self._call(_FINIT_MODULE, ctypes.c_int(handle), ctypes.c_char_p(parameters.encode()), ctypes.c_int(0))

    def unload(self, module: str) -> None:
        """delete_module(2); doesn't wait for users to go away."""
        self._call(_DELETE_MODULE, ctypes.c_char_p(module.encode()), ctypes.c_uint(os.O_NONBLOCK))

    def _call(self, number: int, *arguments: object) -> None:
        ctypes.set_errno(0)
        if self._libc.syscall(ctypes.c_long(number), *arguments) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))


def explain_load(module: str, error: OSError, refusal: str, log: list[str]) -> HostError:
    """Why *module* was not loaded, in the core module's words if it refused, else in the kernel log's."""
    code = error.errno or 0
    reason, meaning = _LOAD_REASONS.get(code, ("load-failed", "see the kernel log"))
    if any("version magic" in line for line in log):
        reason, meaning = "wrong-vermagic", "it was compiled for another kernel; build it for this one"
    name = errno.errorcode.get(code, str(code))
    words = refusal or next((line for line in log if _tells_why(line, module)), "")
    if code == errno.EKEYREJECTED and _UNKNOWN_KEY in words:
        reason, meaning = _LOAD_REASONS[errno.ENOKEY]
    if code == errno.EBUSY:
        reason = busy_reason(words)
    said = f"; the kernel says: {words}" if words else ""
    return HostError(reason, f"{module} was not loaded ({name}, {os.strerror(code)}): {meaning}{said}")


def _tells_why(line: str, module: str) -> bool:
    """Whether a line of the kernel's log says why *module* was refused.

    One that doesn't comes before: "kpatch_x: tainting kernel with TAINT_LIVEPATCH".
    """
    named = module in line or _CORE_REFUSAL in line or _UNTRUSTED.match(line) is not None
    return named and "tainting kernel" not in line
