# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The code of the core module and of its public header, judged without running it.

Emulated processors don't trap where one with indirect branch tracking does: at an indirect call of a function whose
ENDBR the kernel has sealed. If these fail, the core module crashes such a machine.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from builder import KMOD, Builder

# Functions that call through a pointer: to functions of patch modules,
HOOKS = ("pre_patch", "post_patch", "pre_unpatch", "post_unpatch")
# or to our own, whose addresses are taken here, so that they keep their ENDBR: hooks of a patch, all functions of a
# patch, all tasks, the models of a transition, tasks that are born, and tasks that arrive at the border.
OURS = ("switch_hooks", "visit_funcs", "kpatch_each_member", "kpatch_transit", "newborn")
# Of the last, one function or the two that it is inlined into.
ARRIVALS = ("arrive", "resume_work", "signal_work")
POINTERS = {f"kpatch_{hook}{what}" for hook in HOOKS for what in ("_object", "")} | {*OURS, *ARRIVALS}
_CALL = re.compile(r"\b(?:call|jmp)q?\s+\*|__x86_indirect_thunk")
# The loader makes direct calls of these.
_PARAVIRT = re.compile(r"^.*\bcallq?\s+\*.*\n.*R_X86_64_\w+\s+pv_ops\b.*\n", re.MULTILINE)
_FUNCTION = re.compile(r"^[0-9a-f]+ <(?P<name>[^>]+)>:$")


@pytest.fixture(scope="session")
def listing(modules: list[Path]) -> dict[str, str]:
    """The core module's instructions by function."""
    core = next(path for path in modules if path.name == "kpatch.ko")
    text = subprocess.run(["objdump", "-dr", core], capture_output=True, text=True, check=True).stdout
    functions: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        match = _FUNCTION.match(line)
        if match:
            name = match["name"]
        functions[name] = functions.get(name, "") + line + "\n"
    return functions


def test_only_functions_that_keep_their_endbr_are_called_through_pointers(listing: dict[str, str]) -> None:
    calling = {
        re.sub(r"\.(constprop|isra|part|cold).*", "", name)
        for name, code in listing.items()
        if _CALL.search(_PARAVIRT.sub("", code))
    }
    assert calling <= POINTERS
    assert calling


def test_what_is_not_exported_is_reached_by_a_return(listing: dict[str, str]) -> None:
    source = (KMOD / "core/symbols.c").read_text(encoding="utf-8")
    stubs = re.findall(r"^KPATCH_UNEXPORTED\((\w+)\);", source, re.MULTILINE)
    found = [name for name in stubs if f"kpatch_{name}" in listing]
    assert len(found) >= 7
    for name in found:
        code = [line for line in listing[f"kpatch_{name}"].splitlines() if line.startswith(" ")]
        assert "push" in code[0], code
        assert re.search(r"\bret|__x86_return_thunk|\bjmp\b", "\n".join(code[1:3])), code
        assert not _CALL.search("\n".join(code))


@pytest.mark.parametrize(
    ("header", "what"), [("kpatch.h", "struct kpatch_patch"), ("kpatch_author.h", "KPATCH_PRE_PATCH")]
)
def test_the_public_headers_document_themselves(builder: Builder, header: str, what: str) -> None:
    command = [str(builder.tree.source / "scripts/kernel-doc"), "-rst", "-Werror", str(KMOD / "core" / header)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert what in done.stdout
