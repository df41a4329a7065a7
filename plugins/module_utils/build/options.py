# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules core_build and patch_build have in common: their options, and how they answer."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Callable

from ansible_collections.kpatch.fleet.plugins.module_utils.build import safety
from ansible_collections.kpatch.fleet.plugins.module_utils.build.artifact import Result, signature_of, signed
from ansible_collections.kpatch.fleet.plugins.module_utils.build.backend import CHOICES
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import BuildError, RefusedError
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

COMMON: dict[str, Any] = {
    "kernel": {
        "type": "dict",
        "required": True,
        "options": {
            "release": {"type": "str", "required": True},
            "version": {"type": "str", "required": True},
            "build_id": {"type": "str", "required": True},
            "machine": {"type": "str", "default": "x86_64"},
        },
    },
    "store": {"type": "path", "required": True},
    "cache": {"type": "path", "default": "~/.cache/kpatch.fleet"},
    "signing_key": {"type": "path"},
    "module_key": {"type": "path"},
    "module_certificate": {"type": "path"},
    "kmod": {"type": "path"},
    "sources": {"type": "dict"},
    "progress_file": {"type": "path"},
}
TOGETHER = [("module_key", "module_certificate")]
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
    **COMMON,
}


def consistency(options: dict[str, Any]) -> dict[str, str]:
    """The consistency that is asked for; the usual means is not named."""
    asked = {"leave": options["leave"], "switch": options["switch"]}
    return asked if options["means"] == STOPPING else {**asked, "means": options["means"]}


def perform(module: Any, build: Callable[[Say], Result]) -> None:
    """Run *build* and let the AnsibleModule *module* answer."""
    progress: list[str] = []
    watched = module.params["progress_file"]

    def say(line: str) -> None:
        progress.append(line)
        module.log(line)
        if watched:
            # Nobody watches a file that can't be written; the lines come with the result in any case.
            with contextlib.suppress(OSError), Path(watched).open("a", encoding="utf-8") as stream:
                stream.write(f"{line}\n")

    try:
        result = signed(build(say), module.params["signing_key"], module.check_mode)
    except RefusedError as error:
        lines = "\n".join(f"  {refusal}" for refusal in error.refusals)
        refusals = [
            {"file": entry.file, "function": entry.function, "reason": entry.reason} for entry in error.refusals
        ]
        module.fail_json(
            msg=f"{_what(module)} can't be built; the store is as it was:\n{lines}",
            refusals=refusals,
            progress=progress,
        )
    except SignatureError as error:
        module.fail_json(msg=f"{_what(module)} was built, but is not signed: {error}", refusals=[], progress=progress)
    except (BuildError, ManifestError) as error:
        module.fail_json(
            msg=f"{_what(module)} was not built; the store is as it was: {error}", refusals=[], progress=progress
        )
    except OSError as error:
        module.fail_json(
            msg=f"{_what(module)} was not built; the store is as it was: {error.filename}: {error.strerror}",
            refusals=[],
            progress=progress,
        )
    else:
        offsets = [] if result.path is None else safety.offsets(result.path)
        for line in offsets:
            module.warn(f"{_what(module)}: {line}")
        module.exit_json(
            changed=result.changed,
            manifest=result.manifest,
            path=None if result.path is None else str(result.path),
            signature=signature_of(result),
            offsets=offsets,
            progress=progress,
        )


def _what(module: Any) -> str:
    release = module.params["kernel"].get("release")
    return f"{module.params.get('name', 'the core module')} for kernel {release}"
