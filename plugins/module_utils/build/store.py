# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The store: artifacts by kernel release, name and input digest; each appears complete, by rename."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import BuildError
from ansible_collections.kpatch.fleet.plugins.module_utils.manifest import (
    ManifestError,
    check_file,
    check_name,
    check_release,
    dump,
    load,
)

MANIFEST = "manifest.json"
CURRENT = "current"
# What is being written begins with one of these until it appears by rename.
NEW, SELECTING, SIGNING = _SCRATCH = (".new-", ".current-", ".signing-")
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Shelf:
    """The artifacts of one name for one kernel."""

    def __init__(self, store: Path, release: str, name: str) -> None:
        self.path = store / check_release(release) / check_name(name)

    def directory(self, digest: str) -> Path:
        """Where the artifact made from *digest* is, or will be."""
        if not _DIGEST.fullmatch(digest):
            raise BuildError(f"{digest!r} is not an input digest")
        return self.path / digest

    def current(self) -> Path | None:
        """The artifact that was asked for last, or None."""
        try:
            target = (self.path / CURRENT).readlink()
        except OSError:
            return None
        return self.path / target.name if _DIGEST.fullmatch(target.name) else None

    def find(self, digest: str) -> dict[str, Any] | None:
        """The manifest of the artifact made from *digest*, if it is there and whole."""
        directory = self.directory(digest)
        try:
            manifest = load(directory / MANIFEST)
            check_file(manifest, directory / str(manifest["file"]))
        except ManifestError:
            return None
        return manifest if manifest["input_sha256"] == digest else None

    def publish(self, manifest: Mapping[str, Any], files: Mapping[str, Path]) -> Path:
        """Put *files*, by name, and the manifest into the store, and make them current."""
        directory = self.directory(str(manifest["input_sha256"]))
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with writing(self.path):
                self._appear(directory, dump(dict(manifest)), files)
                self._select(directory.name)
        except OSError as error:
            raise BuildError(
                f"{directory}: can't be written: {error.strerror}; the store is as it was; "
                "free space or mend its permissions"
            ) from error
        return directory

    def select(self, digest: str) -> None:
        """Make the artifact made from *digest* the current one."""
        with writing(self.path):
            self._select(digest)

    def _select(self, digest: str) -> None:
        scratch = Path(tempfile.mkdtemp(dir=self.path, prefix=SELECTING))
        try:
            (scratch / CURRENT).symlink_to(digest)
            (scratch / CURRENT).replace(self.path / CURRENT)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _appear(self, directory: Path, manifest: str, files: Mapping[str, Path]) -> None:
        scratch = Path(tempfile.mkdtemp(dir=self.path, prefix=NEW))
        try:
            scratch.chmod(0o755)
            for name, path in files.items():
                _copy(path, scratch / name)
            (scratch / MANIFEST).write_text(manifest, encoding="utf-8")
            _sync(scratch / MANIFEST)
            if directory.exists():  # damaged, or find() had found it
                directory.rename(scratch.with_name(scratch.name + ".replaced"))
            scratch.rename(directory)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
            shutil.rmtree(scratch.with_name(scratch.name + ".replaced"), ignore_errors=True)


@contextmanager
def writing(shelf: Path) -> Iterator[None]:
    """The only writer of the directory *shelf* meanwhile; what one that was killed has left is swept away first.

    The lock ends with the process that holds it, however that ends. Readers need none.
    """
    handle = os.open(shelf, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        for prefix in _SCRATCH:
            for left in shelf.glob(f"{prefix}*"):
                shutil.rmtree(left, ignore_errors=True)
        yield
    finally:
        os.close(handle)


def _copy(source: Path, destination: Path) -> None:
    shutil.copyfile(source, destination)
    destination.chmod(0o644)
    _sync(destination)


def _sync(path: Path) -> None:
    """What a rename makes visible has to be on disk already."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
