# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What became of one change: built, unchanged, refused, incomplete or an error, kept as it was found out."""

from __future__ import annotations

import hashlib
import json
import time
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ansible_collections.kpatch.fleet.plugins.module_utils.build import inputs, patch_module
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import RefusedError
from changes import Change

BUILT, UNCHANGED, REFUSED, INCOMPLETE, ERROR = "built", "unchanged", "refused", "incomplete", "error"
_INCOMPLETE = "it does not compile"  # the file alone: the update also changes a header that it includes


@dataclass
class Outcome:
    """One row of the table."""

    path: str
    result: str
    reasons: list[str] = field(default_factory=list)
    functions: int = 0
    seconds: float = 0
    module: str = ""  # the file
    booted: str = ""  # what the kernel said of it: "" not tried, "ok", or what went wrong


def build(change: Change, request: patch_module.Request, kept: Path) -> Outcome:
    """Build one change, unless that was done before by this very builder."""
    digest = hashlib.sha256(f"{change.diff}{inputs.builder_version()}".encode("utf-8", "surrogateescape")).hexdigest()
    place = kept / f"{digest[:32]}.json"
    if place.is_file():
        return Outcome(**json.loads(place.read_text(encoding="utf-8")))
    started = time.monotonic()
    outcome = _build(change, request)
    outcome.seconds = round(time.monotonic() - started, 1)
    keep(outcome, place)
    return outcome


def keep(outcome: Outcome, place: Path) -> None:
    """Write it down, whole or not at all."""
    place.parent.mkdir(parents=True, exist_ok=True)
    new = place.with_suffix(".new")
    new.write_text(json.dumps(asdict(outcome)), encoding="utf-8")
    new.replace(place)


def _build(change: Change, request: patch_module.Request) -> Outcome:
    try:
        made = patch_module.build(request, False, lambda line: None)
    except RefusedError as error:
        return Outcome(change.path, _refused(error), [f"{entry.function}: {entry.reason}" for entry in error.refusals])
    except Exception:  # whatever it is, it is the builder's fault and belongs into the table
        return Outcome(change.path, ERROR, [traceback.format_exc(limit=-4)])
    assert made.manifest is not None
    assert made.path is not None
    return Outcome(
        change.path,
        BUILT,
        functions=len(made.manifest["functions"]),
        module=str(made.path / made.manifest["file"]),
    )


def _refused(error: RefusedError) -> str:
    reasons = [refusal.reason for refusal in error.refusals]
    if reasons == [patch_module.NO_EFFECT]:
        return UNCHANGED
    return INCOMPLETE if all(reason.startswith(_INCOMPLETE) for reason in reasons) else REFUSED
