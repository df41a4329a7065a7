# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds a patch module: source patch in, artifact in the store out.

The steps, each of which stops with everything that it has to say before the next one begins:

1. the source patch is read, and its inputs digested: an artifact of the same inputs is the answer already;
2. it is applied to the files that it names, and the object files are found that are made of them, or of files that
   include them;
3. each one's compile command is taken from kbuild, and it is made three times: original and patched with a section per
   function, and as shipped;
4. the two are compared by function, and the object as shipped with what was shipped;
5. what changed is written into one object, and linked with the glue;
6. the module appears in the store.
"""

from __future__ import annotations

import functools
import tempfile
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.kpatch.fleet.plugins.module_utils.build import backend as backends
from ansible_collections.kpatch.fleet.plugins.module_utils.build import (
    btf,
    glue,
    inputs,
    kbuild,
    marks,
    moves,
    overlay,
    reasons,
    safety,
    source_patch,
    touched,
)
from ansible_collections.kpatch.fleet.plugins.module_utils.build.artifact import Result, common, present
from ansible_collections.kpatch.fleet.plugins.module_utils.build.emit import emit
from ansible_collections.kpatch.fleet.plugins.module_utils.build.finish import finish
from ansible_collections.kpatch.fleet.plugins.module_utils.build.identity import Identity
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import (
    VMLINUX,
    BuildError,
    EmittedObject,
    Export,
    ObjectContext,
    ObjectDiff,
    Refusal,
    RefusedError,
    refused_as_left,
)
from ansible_collections.kpatch.fleet.plugins.module_utils.build.module_signature import ModuleSigner
from ansible_collections.kpatch.fleet.plugins.module_utils.build.pair import Pair
from ansible_collections.kpatch.fleet.plugins.module_utils.build.run import run, workers
from ansible_collections.kpatch.fleet.plugins.module_utils.build.store import Shelf
from ansible_collections.kpatch.fleet.plugins.module_utils.build.symtab import SymbolTable, read_symbols
from ansible_collections.kpatch.fleet.plugins.module_utils.build.symvers import read_symvers
from ansible_collections.kpatch.fleet.plugins.module_utils.build.touched import Touched
from ansible_collections.kpatch.fleet.plugins.module_utils.build.tree import (
    Say,
    Tree,
    look,
    modinfo,
    text_sha256,
    using,
)
from ansible_collections.kpatch.fleet.plugins.module_utils.manifest import (
    CORE_NAME,
    COUNTING,
    KPATCH,
    LEAVE,
    LIVEPATCH,
    MEANS,
    NOT_GIVEN,
    STOPPING,
    SWITCH,
    ManifestError,
    check_name,
    file_sha256,
    loaded_name,
    module_name,
)

_SRCVERSION_DIGITS = 24
_AUTHOR = f"include/{glue.AUTHOR}"  # where #include <kpatch_author.h> finds it
NO_EFFECT = "the change has no effect on the code of this kernel; there is nothing to patch"


@dataclass(frozen=True)
class Request:
    """What to build."""

    name: str
    source: str  # the diff
    consistency: Mapping[str, str]  # leave, switch; means where it is not the usual one
    sources: Mapping[
        str, str
    ]  # our C, by file name: kmod/patch/*.j2 and the headers of kmod/core that they and authors include
    kernel: Identity
    cache: Path
    store: Path
    backend: str = KPATCH  # or livepatch, or auto
    replace: bool = False  # whether it takes the place of every other patch of its backend
    strict: bool = False  # whether each hunk has to stand at the very lines that the diff names
    signer: ModuleSigner | None = None

    def check(self) -> None:
        """Raise ManifestError or BuildError for what can be known of the request alone."""
        if check_name(self.name) == CORE_NAME:
            raise ManifestError(f"{CORE_NAME!r} is the core module's name; give the patch another")
        if self.consistency["leave"] not in LEAVE or self.consistency["switch"] not in SWITCH:
            raise BuildError(f"leave has to be one of {LEAVE}, switch one of {SWITCH}")
        leave, switch = self.consistency["leave"], self.consistency["switch"]
        if (leave, switch) in NOT_GIVEN:
            raise BuildError(f"leave={leave} switch={switch} is not given: {NOT_GIVEN[leave, switch]}")
        means = self.consistency.get("means", STOPPING)
        if means not in MEANS:
            raise BuildError(f"means has to be one of {MEANS}, not {means!r}")
        if means == COUNTING and (leave, switch) != ("patched_set", "kernel"):
            raise BuildError(
                f"means={COUNTING} is a way to leave=patched_set switch=kernel, not to leave={leave} switch={switch}; "
                "leave 'means' out"
            )
        if self.backend not in backends.CHOICES:
            raise BuildError(f"backend has to be one of {backends.CHOICES}, not {self.backend!r}")
        for name in (glue.TABLES, glue.LIVEPATCH, glue.MODULE, glue.HEADER, glue.AUTHOR):
            if name not in self.sources:
                raise BuildError(f"{name} is not among the C of the collection; install the collection again")
        if self.signer is not None:
            self.signer.check()

    @property
    def shelf(self) -> Shelf:
        """Where its artifacts are."""
        return Shelf(self.store, self.kernel.release, self.name)


def build(request: Request, check_mode: bool, say: Say) -> Result:
    """Build what *request* asks for, unless it is there."""
    request.check()
    files = source_patch.parse(request.source)
    core = Core.find(request)
    tree = look(request.cache, request.kernel)
    if tree is not None and core is not None:
        result = present(request.shelf, inputs.input_digest(tree, _inputs(request, core)), check_mode)
        if result is not None:
            return result
    if check_mode:
        return Result(True, None, None)
    if core is None:
        raise BuildError(
            f"kernel {request.kernel.release}: the store has no core module for it yet; build that first (core_build)"
        )
    with using(request.cache, request.kernel, say) as tree:
        digest = inputs.input_digest(tree, _inputs(request, core))
        result = present(request.shelf, digest, check_mode)
        if result is not None:
            return result
        with tempfile.TemporaryDirectory(prefix="kpatch-build-") as scratch:
            return _Build(request, tree, core, digest, Path(scratch), say).build(files)


@dataclass(frozen=True)
class Core:
    """The core module that the patch module will be linked against."""

    digest: str
    exports: Mapping[str, Export]

    @classmethod
    def find(cls, request: Request) -> Core | None:
        """The core module in the store for the request's kernel, or None. One for livepatch is linked against none."""
        if request.backend == LIVEPATCH:
            return cls("", {})
        current = Shelf(request.store, request.kernel.release, CORE_NAME).current()
        if current is None or not (current / "Module.symvers").is_file():
            return None
        return cls(file_sha256(current / "Module.symvers"), read_symvers(current / "Module.symvers"))


def _inputs(request: Request, core: Core) -> dict[str, Any]:
    return {
        "name": request.name,
        "source": text_sha256(request.source),
        "sources": inputs.sources_digest(request.sources),
        "consistency": dict(request.consistency),
        "backend": request.backend,
        "replace": request.replace,
        "strict": request.strict,
        "core": core.digest,
        "signer": request.signer and request.signer.digest,
    }


class _Build:
    """One build under way: all its files are in *scratch*."""

    def __init__(self, request: Request, tree: Tree, core: Core, digest: str, scratch: Path, say: Say) -> None:
        self.request = request
        self.tree = tree
        self.core = core
        self.digest = digest
        self.scratch = scratch
        self.plain, self.patched = scratch / "plain", scratch / "patched"  # where the source is compiled
        self.say = say
        forced = marks.forced(request.source)
        self.backend, self.why = backends.choose(request.backend, request.consistency, tree.config(), forced)
        self.exports = read_symvers(tree.symvers)
        if self.backend == KPATCH:
            self.exports = {**self.exports, **core.exports}
        self.tables: dict[str, SymbolTable] = {}
        self._sizes: dict[str, int] | None = None
        self.images: dict[str, Path] = {}
        self.reading = threading.Lock()

    def build(self, files: list[source_patch.FilePatch]) -> Result:
        texts, moved = self.apply(files)
        units = self.units(files, texts)
        overlay.workplace(self.tree.source, self.tree.objects, self.plain, {})
        shown = {**texts, _AUTHOR: self.request.sources[glue.AUTHOR]}
        overlay.workplace(self.tree.source, self.tree.objects, self.patched, shown, units.includers)
        diffs = self.compare(units)
        self.explain(texts, units, diffs)
        module, emitted = self.link(diffs)
        manifest = self.manifest(module, emitted)
        undoes = backends.UNDOES_RELOCATIONS in self.symbols(VMLINUX)
        limits = backends.limits(self.backend, emitted, undoes)
        told = safety.report(manifest, emitted, diffs, self.why, moved, limits)
        return self.publish(manifest, module, told)

    def explain(self, texts: overlay.Texts, units: Touched, diffs: list[ObjectDiff]) -> None:
        """Say of each function why it is in, in words of the source."""
        edited = reasons.Edits()
        for path, text in texts.items():
            before = self.tree.source / path
            edited |= reasons.edits(source_patch.read_text(before) if before.exists() else "", text or "")
        by_source = {unit.source: unit for unit in (*units.changed, *units.including)}
        for diff in diffs:
            unit = by_source.get(diff.context.source)
            if unit is not None and diff.changed:
                own = reasons.functions(source_patch.read_text(self.patched / overlay.SOURCE / unit.source))
                reasons.explain(diff, edited, own, functools.partial(self.inlined, unit))

    def inlined(self, unit: kbuild.Unit) -> dict[str, set[str]]:
        """What the compiler inlines in a unit of the patched source."""
        self.say(f"{self.tree.release}: asking the compiler what it inlines in {unit.source}")
        out = self.scratch / "inlined.o"
        kbuild.compile_unit(self.tree, unit, out, self.patched, debug="-g1")
        return reasons.inlined(out)

    def apply(self, files: list[source_patch.FilePatch]) -> tuple[overlay.Texts, list[source_patch.Moved]]:
        """The texts of the files with the patch applied, and the hunks that stand at other lines than it says."""
        refusals: list[Refusal] = []
        moved: list[source_patch.Moved] = []
        texts = {}
        for file in files:
            try:
                applied = source_patch.apply(file, self.tree.source, self.request.strict)
                texts[file.path] = applied.text
                moved += applied.moved
            except RefusedError as error:
                refusals += error.refusals
        if refusals:
            raise RefusedError(refusals)
        return texts, moved

    def units(self, files: list[source_patch.FilePatch], texts: overlay.Texts) -> Touched:
        """The object files that are touched."""
        units = touched.find(self.tree, files, texts, self.say)
        refusals = units.refusals + touched.unbuilt(self.tree, files, units, self.say)
        if refusals:
            raise RefusedError(refusals)
        return units

    def compare(self, units: Touched) -> list[ObjectDiff]:
        """What differs, and whether what it would replace is what runs."""
        pair = Pair(self.tree, self.plain, self.patched, self.scratch / "objects", self.context, self.image)
        pair.folder.mkdir()
        work = [
            *((pair.changed, unit) for unit in units.changed),
            *((pair.including, unit) for unit in units.including),
            *((pair.added, unit) for unit in units.added),
            *((pair.removed, unit) for unit in units.removed),
            *((pair.fixed, unit) for unit in units.fixed),
        ]
        diffs: list[ObjectDiff] = []
        refusals: list[Refusal] = []
        compared = True
        with ThreadPoolExecutor(workers()) as pool:
            results = pool.map(lambda item: item[0](item[1]), work)
            for number, ((_compare, unit), (diff, refused)) in enumerate(zip(work, results), 1):
                self.say(f"{self.tree.release}: compared {unit.source}, {number} of {len(work)}")
                refusals += refused
                compared &= diff is not None or not refused
                if diff is not None:
                    diffs.append(diff)
        refusals = refusals or moves.settle(diffs) or refused_as_left(diffs)
        if refusals:
            differences = [each for diff in diffs for each in diff.differences] if compared else None
            raise RefusedError(sorted(set(refusals), key=str), differences)
        if not any(diff.changed or diff.hooks for diff in diffs):
            raise RefusedError([Refusal("(whole diff)", source_patch.WHOLE_FILE, NO_EFFECT)])
        return diffs

    def context(self, unit: kbuild.Unit) -> ObjectContext:
        """Where a unit's object belongs."""
        return ObjectContext(
            source=unit.source,
            object=unit.object,
            exports=self.exports,
            symbols=self.symbols(unit.object),
            vmlinux=self.symbols(VMLINUX),
            sizes=self.sizes(),
            depends=self.depends(unit.object),
        )

    def depends(self, name: str) -> frozenset[str]:
        """The modules that a shipped one can't be loaded without."""
        names = "" if name == VMLINUX else modinfo(self.image(name)).get("depends", "")
        return frozenset(each.replace("-", "_") for each in names.split(",") if each)

    def symbols(self, name: str) -> SymbolTable:
        """The symbols of vmlinux or a shipped module."""
        image = self.image(name)
        with self.reading:
            if name not in self.tables:
                self.tables[name] = read_symbols(image)
            return self.tables[name]

    def sizes(self) -> dict[str, int]:
        """How big the entries of this kernel's special sections are."""
        with self.reading:
            if self._sizes is None:
                self._sizes = btf.entry_sizes(self.tree.vmlinux)
            return self._sizes

    def image(self, name: str) -> Path:
        """The file of vmlinux or a shipped module."""
        with self.reading:
            if name not in self.images:
                self.images[name] = self.tree.vmlinux if name == VMLINUX else self.tree.module(name, self.scratch)
            return self.images[name]

    def link(self, diffs: list[ObjectDiff]) -> tuple[Path, EmittedObject]:
        """The module, and what emit() put into it."""
        module = loaded_name(self.request.name, self.digest)
        file = module_name(self.request.name) + ".ko"
        self.say(f"{self.tree.release}: linking {file}")
        folder = self.scratch / "module"
        folder.mkdir()
        emitted = emit(diffs, folder / "diff.o", self.backend == LIVEPATCH)
        (folder / "Kbuild").write_text(f"obj-m := {module}.o\n{module}-y := tables.o module.o\n", encoding="ascii")
        sources = self.request.sources
        (folder / glue.HEADER).write_text(sources[glue.HEADER], encoding="utf-8")
        (folder / "tables.c").write_text(self.tables_c(emitted, diffs), encoding="utf-8")
        kbuild.external_objects(self.tree, folder, "tables.o")
        parts = [folder / "diff.o", folder / "tables.o"]
        code = glue.module(sources[glue.MODULE], self.srcversion, _undefined(parts), self.exports)
        (folder / "module.c").write_text(code, encoding="utf-8")
        kbuild.replay(self.tree, folder, "tables", "module")
        linked, finished = folder / "linked.ko", folder / file
        kbuild.link(self.tree, [*parts, folder / "module.o"], linked)
        finish(linked, finished)
        if self.request.signer is not None:
            self.request.signer.sign(finished, self.tree)
        return finished, emitted

    def tables_c(self, emitted: EmittedObject, diffs: list[ObjectDiff]) -> str:
        """The C of the module's tables."""
        sources, name = self.request.sources, self.request.name
        if self.backend == LIVEPATCH:
            return glue.livepatch(sources[glue.LIVEPATCH], name, emitted, self.request.replace)
        how = self.request.consistency, self.request.replace
        return glue.tables(sources[glue.TABLES], name, emitted, _originals(diffs), *how)

    @property
    def srcversion(self) -> str:
        """Modpost's is over the C files; ours is over all that the module is made of."""
        return self.digest[:_SRCVERSION_DIGITS].upper()

    def manifest(self, module: Path, emitted: EmittedObject) -> dict[str, Any]:
        """What the artifact is."""
        return {
            **common(self.request.name, self.tree, glue.abi(self.request.sources[glue.HEADER]), module, self.backend),
            "signer": self.request.signer and self.request.signer.identity,
            "source_sha256": text_sha256(self.request.source),
            "input_sha256": self.digest,
            "loaded_as": loaded_name(self.request.name, self.digest),
            "consistency": dict(self.request.consistency),
            "replace": self.request.replace,
            "functions": [
                {"object": entry.object, "name": entry.name, "sympos": entry.sympos, "reason": entry.reason}
                for entry in emitted.functions
            ],
            "added": [{"object": entry.object, "name": entry.name, "reason": entry.reason} for entry in emitted.added],
            "srcversion": self.srcversion,
        }

    def publish(self, manifest: dict[str, Any], module: Path, told: safety.Report) -> Result:
        """Put the module, its manifest and its safety report into the store."""
        files = {module.name: module}
        for name, text in safety.files(told).items():
            files[name] = module.with_name(name)
            files[name].write_text(text, encoding="utf-8")
        return Result(True, manifest, self.request.shelf.publish(manifest, files))


def _originals(diffs: list[ObjectDiff]) -> glue.Originals:
    return {
        (function.object, function.name, function.sympos): diff.originals[function.name]
        for diff in diffs
        for function in diff.changed
        if function.name in diff.originals
    }


def _undefined(objects: list[Path]) -> set[str]:
    """The symbols that the objects take from elsewhere."""
    listed = run(["nm", "--undefined-only", "--format=posix", *objects])
    return {fields[0] for fields in map(str.split, listed.splitlines()) if len(fields) > 1}
