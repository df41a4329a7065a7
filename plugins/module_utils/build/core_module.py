# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the core module for one kernel: our C in, artifact in the store out."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ansible_collections.kpatch.fleet.plugins.module_utils.build import glue, inputs, kbuild
from ansible_collections.kpatch.fleet.plugins.module_utils.build.artifact import Result, common, present
from ansible_collections.kpatch.fleet.plugins.module_utils.build.identity import Identity
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import BuildError
from ansible_collections.kpatch.fleet.plugins.module_utils.build.module_signature import ModuleSigner
from ansible_collections.kpatch.fleet.plugins.module_utils.build.store import Shelf
from ansible_collections.kpatch.fleet.plugins.module_utils.build.tree import Say, Tree, look, modinfo, using
from ansible_collections.kpatch.fleet.plugins.module_utils.manifest import CORE_NAME, module_name

SYMVERS = "Module.symvers"


@dataclass(frozen=True)
class Request:
    """What to build."""

    sources: Mapping[str, str]  # the files of kmod/core/, by path
    kernel: Identity
    cache: Path
    store: Path
    signer: ModuleSigner | None = None

    def check(self) -> None:
        """Raise BuildError for what can be known of the request alone."""
        if glue.HEADER not in self.sources or not {"Kbuild", "Makefile"} & set(self.sources):
            raise BuildError("the core module's C has no kpatch.h or no Kbuild; install the collection again")
        for path in self.sources:
            if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
                raise BuildError(f"{path!r}: a source of the core module can't be outside its directory")
        if self.signer is not None:
            self.signer.check()

    @property
    def shelf(self) -> Shelf:
        """Where its artifacts are."""
        return Shelf(self.store, self.kernel.release, CORE_NAME)


def build(request: Request, check_mode: bool, say: Say) -> Result:
    """Build the core module for the request's kernel, unless it is there."""
    request.check()
    tree = look(request.cache, request.kernel)
    if tree is not None:
        result = present(request.shelf, inputs.input_digest(tree, _inputs(request)), check_mode)
        if result is not None:
            return result
    if check_mode:
        return Result(True, None, None)
    with using(request.cache, request.kernel, say) as tree:
        digest = inputs.input_digest(tree, _inputs(request))
        result = present(request.shelf, digest, check_mode)
        if result is not None:
            return result
        with tempfile.TemporaryDirectory(prefix="kpatch-build-") as scratch:
            say(f"{tree.release}: building the core module")
            return _build(request, tree, digest, Path(scratch))


def _inputs(request: Request) -> dict[str, Any]:
    return {
        "name": CORE_NAME,
        "sources": inputs.sources_digest(request.sources),
        "signer": request.signer and request.signer.digest,
    }


def _build(request: Request, tree: Tree, digest: str, scratch: Path) -> Result:
    for path, text in request.sources.items():
        (scratch / path).parent.mkdir(parents=True, exist_ok=True)
        (scratch / path).write_text(text, encoding="utf-8")
    kbuild.external_modules(tree, scratch)
    module = scratch / f"{module_name(CORE_NAME)}.ko"
    if not module.is_file():
        raise BuildError(f"kernel {tree.release}: kbuild made no {module.name} of the core module's C")
    if request.signer is not None:
        request.signer.sign(module, tree)
    manifest = {
        **common(CORE_NAME, tree, glue.abi(request.sources[glue.HEADER]), module),
        "signer": request.signer and request.signer.identity,
        "source_sha256": inputs.sources_digest(request.sources),
        "input_sha256": digest,
        "consistency": None,
        "functions": [],
        "added": [],
        "srcversion": modinfo(module)["srcversion"],
    }
    (scratch / SYMVERS).write_text(_without_directory(scratch, scratch / SYMVERS), encoding="ascii")
    files = {module.name: module, SYMVERS: scratch / SYMVERS}
    return Result(True, manifest, request.shelf.publish(manifest, files))


def _without_directory(directory: Path, symvers: Path) -> str:
    """Modpost names a module by its path, which is another one at each build."""
    return symvers.read_text(encoding="ascii").replace(f"{directory}/", "")
