# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What became of the patch of one changed C file, kept as it was found out."""

from __future__ import annotations

import hashlib
import inspect
import json
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import grouping
from ansible_collections.kpatch.fleet.plugins.module_utils.build import inputs, patch_module
from ansible_collections.kpatch.fleet.plugins.module_utils.build.artifact import Result
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import Refusal, RefusedError
from grouping import Grouping

BUILT, UNCHANGED, DATA, REFUSED = "built", "unchanged", "data", "refused"
INCOMPLETE, WIDE, ERROR = "incomplete", "wide", "error"
MOST_FILES = 12  # of one patch: what grows beyond is the update, and no fix
_LACKS = (grouping.DOES_NOT_COMPILE, grouping.UNDEFINED)

Build = Callable[[frozenset[str]], Result]  # of a patch of some files of the update


@dataclass
class Outcome:
    """One row of the table."""

    path: str
    result: str
    files: list[str] = field(default_factory=list)  # of the patch, beside the one that it is about
    reasons: list[str] = field(default_factory=list)
    functions: int = 0
    seconds: float = 0
    module: str = ""  # the file
    booted: str = ""  # what the kernel said of it: "" not tried, "ok", or what went wrong
    lost: int = 0  # machines, while it was tried


class Shelf:
    """The outcomes of one update that this very builder has come to, each in a file."""

    def __init__(self, directory: Path, bound: int) -> None:
        code = f"{inputs.builder_version()}{inspect.getsource(grouping)}{bound}{MOST_FILES}"
        self._directory, self._code = directory, code

    def find(self, path: str) -> Outcome | None:
        """What is known of one file."""
        place = self._place(path)
        return Outcome(**json.loads(place.read_text(encoding="utf-8"))) if place.is_file() else None

    def keep(self, outcome: Outcome) -> None:
        """Write it down, whole or not at all."""
        place = self._place(outcome.path)
        place.parent.mkdir(parents=True, exist_ok=True)
        new = place.with_suffix(".new")
        new.write_text(json.dumps(asdict(outcome)), encoding="utf-8")
        new.replace(place)

    def _place(self, path: str) -> Path:
        digest = hashlib.sha256(f"{path}\0{self._code}".encode()).hexdigest()
        return self._directory / f"{digest[:32]}.json"


def find_out(path: str, group: Grouping, build: Build, bound: int) -> Outcome:
    """Build the patch of one changed C file, with what it lacks, unless more than *bound* files may use that."""
    started = time.monotonic()
    try:
        outcome, files = _found_out(path, group, build, bound)
    except Exception:  # whatever it is, it is the builder's fault and belongs into the table
        outcome, files = Outcome(path, ERROR, reasons=[traceback.format_exc(limit=-4)]), frozenset({path})
    outcome.files = sorted(files - {path})
    outcome.seconds = round(time.monotonic() - started, 1)
    return outcome


def _found_out(path: str, group: Grouping, build: Build, bound: int) -> tuple[Outcome, frozenset[str]]:
    """The outcome, and the files of the patch."""
    files = frozenset({path})
    while True:
        outcome, refusals = _build(path, files, build)
        more = group.lacking(files, refusals)
        if not more:
            return outcome, files
        wanted = ", ".join(sorted(more))
        if len(files | more) > MOST_FILES:
            why = f"with {len(files) - 1} other files of the update it still lacks {wanted}"
            return Outcome(path, INCOMPLETE, reasons=[f"{path}: (whole file): {why}"]), files
        users = group.users(files | more)
        if users > bound:
            why = f"it lacks {wanted}, and {users} C files may use what it then changes"
            return Outcome(path, WIDE, reasons=[f"{path}: (whole file): {why}"]), files
        files |= more


def _build(path: str, files: frozenset[str], build: Build) -> tuple[Outcome, list[Refusal]]:
    try:
        made = build(files)
    except RefusedError as error:
        reasons = [f"{entry.file}: {entry.function}: {entry.reason}" for entry in error.refusals]
        return Outcome(path, _refused(error), reasons=reasons), error.refusals
    assert made.manifest is not None
    assert made.path is not None
    module = str(made.path / made.manifest["file"])
    return Outcome(path, BUILT, functions=len(made.manifest["functions"]), module=module), []


def _refused(error: RefusedError) -> str:
    reasons = [refusal.reason for refusal in error.refusals]
    if reasons == [patch_module.NO_EFFECT]:
        return UNCHANGED
    if all(reason.startswith(_LACKS) for reason in reasons):
        return INCOMPLETE
    return DATA if _of_data_alone(error) else REFUSED


def _of_data_alone(error: RefusedError) -> bool:
    """Whether no function's code differs: atkbd_dmi_quirk_table got a machine more (drivers/input/keyboard/atkbd.c)."""
    return bool(error.differences) and all(each.kind == "data" for each in error.differences or ())
