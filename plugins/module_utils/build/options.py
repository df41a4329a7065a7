# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules that build have in common: their options, and how they answer."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable

from ansible_collections.kpatch.fleet.plugins.module_utils.build import core_module, patch_module, safety
from ansible_collections.kpatch.fleet.plugins.module_utils.build.artifact import Result, signature_of, signed
from ansible_collections.kpatch.fleet.plugins.module_utils.build.backend import CHOICES
from ansible_collections.kpatch.fleet.plugins.module_utils.build.identity import Identity
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import BuildError, RefusedError
from ansible_collections.kpatch.fleet.plugins.module_utils.build.module_signature import ModuleSigner
from ansible_collections.kpatch.fleet.plugins.module_utils.build.tree import Say
from ansible_collections.kpatch.fleet.plugins.module_utils.manifest import (
    KPATCH,
    LEAVE,
    MEANS,
    STOPPING,
    SWITCH,
    ManifestError,
)
from ansible_collections.kpatch.fleet.plugins.module_utils.signature import SignatureError

KERNEL: dict[str, Any] = {
    "release": {"type": "str", "required": True},
    "version": {"type": "str", "required": True},
    "build_id": {"type": "str", "required": True},
    "machine": {"type": "str", "default": "x86_64"},
}
SOURCE: dict[str, Any] = {
    "tree": {"type": "path", "required": True},
    "config": {"type": "path", "required": True},
    "symvers": {"type": "path", "required": True},
    "vmlinux": {"type": "path", "required": True},
    "modules": {"type": "path"},
    "toolchain": {"type": "path"},
}
# Where a build works, whatever it builds.
PLACE: dict[str, Any] = {
    "store": {"type": "path", "required": True},
    "cache": {"type": "path", "default": "~/.cache/kpatch.fleet"},
    "signing_key": {"type": "path"},
    "module_key": {"type": "path"},
    "module_certificate": {"type": "path"},
    "kmod": {"type": "path"},
    "sources": {"type": "dict"},
    "progress_file": {"type": "path"},
}
PATCH: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "source": {"type": "path", "required": True},
    "source_text": {"type": "str"},
    "leave": {"type": "str", "choices": list(LEAVE), "default": "patched_set"},
    "switch": {"type": "str", "choices": list(SWITCH), "default": "kernel"},
    "means": {"type": "str", "choices": list(MEANS), "default": STOPPING},
    "backend": {"type": "str", "choices": list(CHOICES), "default": KPATCH},
    "replace": {"type": "bool", "default": False},
    "strict": {"type": "bool", "default": False},
}
CORE_BUILD: dict[str, Any] = {
    "kernel": {"type": "dict", "required": True, "options": KERNEL},
    "kernel_source": {"type": "dict", "options": SOURCE},
    **PLACE,
}
PATCH_BUILD: dict[str, Any] = {**PATCH, **CORE_BUILD}
TOGETHER = [("module_key", "module_certificate")]
Answer = dict[str, Any]


def core_request(options: Mapping[str, Any], kernel: Identity, sources: Mapping[str, str]) -> core_module.Request:
    """The core module for *kernel*, by *options* of PLACE."""
    return core_module.Request(
        sources=sources,
        kernel=kernel,
        cache=Path(options["cache"]),
        store=Path(options["store"]),
        signer=ModuleSigner.of(options["module_key"], options["module_certificate"]),
    )


def patch_request(
    options: Mapping[str, Any], patch: Mapping[str, Any], kernel: Identity, sources: Mapping[str, str]
) -> patch_module.Request:
    """The patch module of *patch*, options of PATCH, for *kernel*, by *options* of PLACE."""
    return patch_module.Request(
        name=patch["name"],
        source=patch["source_text"] or "",
        consistency=consistency(patch),
        sources=sources,
        kernel=kernel,
        cache=Path(options["cache"]),
        store=Path(options["store"]),
        signer=ModuleSigner.of(options["module_key"], options["module_certificate"]),
        backend=patch["backend"],
        replace=patch["replace"],
        strict=patch["strict"],
    )


def consistency(patch: Mapping[str, Any]) -> dict[str, str]:
    """The consistency that is asked for; the usual means is not named."""
    asked = {"leave": patch["leave"], "switch": patch["switch"]}
    return asked if patch["means"] == STOPPING else {**asked, "means": patch["means"]}


def sayer(module: Any) -> Say:
    """Where the AnsibleModule *module* says what it does: in the log, and in the file that is watched."""
    watched = module.params["progress_file"]

    def say(line: str) -> None:
        module.log(line)
        if watched:
            # Nobody watches a file that can't be written; the lines come with the result in any case.
            with contextlib.suppress(OSError), Path(watched).open("a", encoding="utf-8") as stream:
                stream.write(f"{line}\n")

    return say


def perform(module: Any, build: Callable[[Say], Result]) -> None:
    """Run *build* and let the AnsibleModule *module* answer."""
    progress: list[str] = []
    shown = sayer(module)

    def say(line: str) -> None:
        progress.append(line)
        shown(line)

    what = f"{module.params.get('name', 'the core module')} for kernel {module.params['kernel'].get('release')}"
    answer = attempt(what, lambda: signed(build(say), module.params["signing_key"], module.check_mode))
    if "msg" in answer:
        module.fail_json(**answer, progress=progress)
    say(f"{what} {safety.outcome(answer['changed'], answer['manifest'], answer['report'])}")
    for line in answer["offsets"]:
        module.warn(f"{what}: {line}")
    module.exit_json(**answer, progress=progress)


def attempt(what: str, build: Callable[[], Result]) -> Answer:
    """What came of *build*, as modules return it; with a `msg` it failed. *what* is to be built."""
    try:
        result = build()
    except RefusedError as error:
        lines = "\n".join(f"  {refusal}" for refusal in error.refusals)
        refusals = [
            {"file": entry.file, "function": entry.function, "reason": entry.reason} for entry in error.refusals
        ]
        return _failed(f"{what} can't be built; the store is as it was:\n{lines}", refusals)
    except SignatureError as error:
        return _failed(f"{what} was built, but is not signed: {error}")
    except (BuildError, ManifestError) as error:
        return _failed(f"{what} was not built; the store is as it was: {error}")
    except OSError as error:
        # Python raises some without a file and an errno.
        why = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        return _failed(f"{what} was not built; the store is as it was: {why}")
    return {
        "changed": result.changed,
        "manifest": result.manifest,
        "path": None if result.path is None else str(result.path),
        "signature": signature_of(result),
        "offsets": [] if result.path is None else safety.offsets(result.path),
        "report": safety.place(result.path),
    }


def _failed(msg: str, refusals: list[dict[str, str]] | None = None) -> Answer:
    return {"msg": msg, "refusals": refusals or []}
