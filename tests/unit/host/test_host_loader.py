# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""If this breaks, an operator is told a wrong reason for a refused load."""

from __future__ import annotations

import errno

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils.host.loader import explain_load

_STRANGE_KEY = "Loading of module with unavailable key is rejected"


@pytest.mark.parametrize(
    ("code", "refusal", "log", "reason", "words"),
    [
        (errno.EBUSY, "cat/7 is in foo", [], "busy", "cat/7 is in foo"),
        (errno.EBUSY, "function foo is already redirected by someone else", [], "foreign-patch", "function foo"),
        (errno.EKEYREJECTED, "", [_STRANGE_KEY], "signature", "enrol the key"),
        (errno.EKEYREJECTED, "", [_STRANGE_KEY], "signature", "unavailable key"),
        (errno.EKEYREJECTED, "", ["Loading of unsigned module is rejected"], "signature", "unsigned module"),
        (
            errno.ENOEXEC,
            "",
            ["kpatch_a: version magic '6.1.0-1' should be '6.1.0-2'"],
            "wrong-vermagic",
            "6.1.0-1",
        ),
        (errno.ENOENT, "", ["other: x", "kpatch_a: Unknown symbol foo (err -2)"], "load-failed", "Unknown symbol foo"),
        (errno.EINVAL, "", ["kpatch: refused: foo of vmlinux is not there"], "load-failed", "foo of vmlinux"),
        (errno.ENOSYS, "", [], "load-failed", "see the kernel log"),
    ],
)
def test_reasons(code: int, refusal: str, log: list[str], reason: str, words: str) -> None:
    error = explain_load("kpatch_a", OSError(code, "x"), refusal, log)
    assert error.reason == reason
    assert words in str(error)


def test_that_a_load_taints_the_kernel_is_not_why_it_was_refused() -> None:
    log = ["kpatch_a: tainting kernel with TAINT_LIVEPATCH", "kpatch_a: Unknown symbol nobody (err -2)"]
    assert "the kernel says: kpatch_a: Unknown symbol nobody" in str(
        explain_load("kpatch_a", OSError(errno.ENOENT, "no such file"), "", log)
    )
