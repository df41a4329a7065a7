# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds one patch with the builder as it is, in a process of its own, and notes when its stages began and ended.

The stages are functions of the builder; they are wrapped here, so that nothing in it knows of being measured.
Arguments: what to build, as JSON, and the file for what was noted.
"""

from __future__ import annotations

import functools
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any, Callable, NamedTuple

from ansible_collections.kpatch.fleet.plugins.module_utils.build import (
    core_module,
    debian,
    kbuild,
    layouts,
    match,
    overlay,
    pair,
    patch_module,
    tree,
)
from ansible_collections.kpatch.fleet.plugins.module_utils.build.identity import Identity
from ansible_collections.kpatch.fleet.plugins.module_utils.build.options import attempt
from ansible_collections.kpatch.fleet.plugins.plugin_utils.build import core_sources, patch_sources

KMOD = Path(__file__).resolve().parents[2] / "roles/builder/files/kmod"


class Stage(NamedTuple):
    """A function of the builder, and what it is called here."""

    name: str
    owner: Any
    function: str
    inner: bool = False  # part of another stage; several may run side by side


STAGES = (
    Stage("unpack symbols", debian.Unpacker, "vmlinux"),
    Stage("unpack modules", debian.Unpacker, "modules"),
    Stage("unpack source", debian.Unpacker, "source"),
    Stage("unpack headers", debian.Unpacker, "objects"),
    Stage("check symbols", tree, "_check_symvers"),
    Stage("core module", core_module, "_build"),
    Stage("apply the diff", patch_module._Build, "apply"),
    Stage("find the objects", patch_module._Build, "units"),
    Stage("link the source's view", overlay, "workplace"),
    Stage("compile and compare", patch_module._Build, "compare"),
    Stage("preprocess", kbuild, "preprocessed", inner=True),
    Stage("compile", kbuild, "compile_unit", inner=True),
    Stage("diff", pair, "diff_objects", inner=True),
    Stage("match with what is shipped", match, "compare", inner=True),
    Stage("compare types", layouts, "changed", inner=True),
    Stage("say why", patch_module._Build, "explain"),
    Stage("link the module", patch_module._Build, "link"),
    Stage("into the store", patch_module._Build, "publish"),
)


class Notes:
    """What was noted."""

    def __init__(self) -> None:
        # When it began and ended, and the processor seconds meanwhile, of all that ran.
        self.stages: list[tuple[str, float, float, float]] = []
        self.objects = 0

    def wrap(self, stage: Stage) -> None:
        """Have the stage noted each time."""
        inside: Callable[..., Any] = getattr(stage.owner, stage.function)

        @functools.wraps(inside)
        def noted(*arguments: Any, **named: Any) -> Any:
            begin, busy = time.monotonic(), _busy()
            try:
                result = inside(*arguments, **named)
            finally:
                self.stages.append((stage.name, begin, time.monotonic(), _busy() - busy))
            if stage.function == "units":
                self.objects = len(result)
            return result

        setattr(stage.owner, stage.function, noted)


def _busy() -> float:
    """The processor seconds of this process and of the programs that it has run."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def main() -> None:
    """Build, and exit with what was wrong if it fails."""
    asked = json.loads(sys.argv[1])
    notes = Notes()
    for stage in STAGES:
        notes.wrap(stage)
    kernel, cache, store = Identity.of(asked["kernel"]), Path(asked["cache"]), Path(asked["store"])
    core = core_module.Request(core_sources(KMOD), kernel, cache, store)
    patch = patch_module.Request(
        name=asked["name"],
        source=Path(asked["patch"]).read_text(encoding="utf-8"),
        consistency={"leave": "patched_set", "switch": "kernel"},
        sources=patch_sources(KMOD),
        kernel=kernel,
        cache=cache,
        store=store,
    )
    # The core module of a kernel is built with its first patch; later ones find it in the store.
    told = functools.partial(print, flush=True)
    for build in (
        functools.partial(core_module.build, core, False, told),
        functools.partial(patch_module.build, patch, False, told),
    ):
        answer = attempt(asked["name"], build)
        if "msg" in answer:
            raise SystemExit(answer["msg"])
    Path(sys.argv[2]).write_text(json.dumps(vars(notes)), encoding="utf-8")


if __name__ == "__main__":
    main()
