# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps artifacts on the host: in /var/lib/kpatch.fleet/<release>, complete or not at all, for root only.

A new artifact lies under a temporary name until the kernel has accepted it; then it takes the place of the
one before by rename. So a refused module never hides the one that ran, and can bring it back.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible_collections.kpatch.fleet.plugins.module_utils import manifest as manifests
from ansible_collections.kpatch.fleet.plugins.module_utils import newest
from ansible_collections.kpatch.fleet.plugins.module_utils.host.errors import HostError, from_oserror
from ansible_collections.kpatch.fleet.plugins.module_utils.host.files import read_bytes, read_text
from ansible_collections.kpatch.fleet.plugins.module_utils.host.preflight import check_signer

_BASE = "var/lib/kpatch.fleet"
# What is to be on with this kernel; read at boot.
ENABLED = "enabled.json"
_ANEW = "look at its disk, then remove it and roll out again: that writes it anew"
# Room for the manifest, for what is kept of the set before, and for what the file system itself needs.
_SPARE_BYTES = 64 * 1024
_SPARE_INODES = 8


class Staging:
    """The staged artifacts of one kernel release."""

    def __init__(self, root: Path, release: str) -> None:
        self.root = root
        self.base = root / _BASE
        self.directory = self.base / release
        # How many boots did not live through the loading of what is staged; see boot.py.
        self.boots = self.base / "boot.json"
        # Stays when all patches go: an old artifact could come at any time.
        self.newest = self.base / "newest.json"

    def modules(self) -> list[str] | None:
        """The staged modules' names; None if only root could tell."""
        try:
            return sorted(entry.stem for entry in self.directory.iterdir() if _is_published(entry))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except PermissionError:
            return None

    def manifests(self) -> list[dict[str, Any]] | None:
        """What of the staged manifests tells whose a loaded module is; None if only root could tell.

        They come in the order in which the modules were enabled. A manifest that can't be read tells nothing.
        """
        modules = self.modules()
        if modules is None:
            return None
        order = [module for module in self._enabled_or_none() if module in modules]
        return [found for module in dict.fromkeys([*order, *modules]) if (found := self._told(module))]

    def _enabled_or_none(self) -> list[str]:
        """A look does not fail for a list that is damaged: whoever loads by it, or adds to it, does."""
        return [] if self.damage() else self.enabled()

    def damage(self) -> str | None:
        """Why `enabled` can't be read, and the mend; None if it can."""
        try:
            self.enabled()
        except HostError as error:
            return str(error)
        return None

    def _told(self, module: str) -> dict[str, Any] | None:
        try:
            manifest = self.manifest(module)
        except HostError:
            return None
        return {key: manifest[key] for key in ("module", "name", "srcversion", "build_id")}

    def enabled(self) -> list[str]:
        """The modules that are to be on with this kernel, in the order in which they are loaded."""
        path = self.directory / ENABLED
        try:
            text = read_text(path)
            kept = [] if text is None else json.loads(text)
        except HostError as error:
            raise HostError("damaged", f"{error}; {_ANEW}") from error
        except ValueError as error:
            raise HostError("damaged", f"{path}: is damaged: {error}; {_ANEW}") from error
        if not isinstance(kept, list) or not all(isinstance(module, str) for module in kept):
            raise HostError("damaged", f"{path}: is no list of modules; {_ANEW}")
        return kept

    def keep_enabled(self, module: str, on: bool) -> None:
        """Keep in mind whether *module* is to be on, for the next boot."""
        if not on and self.damage():
            return  # nothing is loaded by a list that can't be read
        before = self.enabled()
        after = [*before, module] if on and module not in before else [one for one in before if on or one != module]
        self._keep(before, after)

    def keep_order(self, modules: list[str]) -> None:
        """Keep in mind that *modules* come on in this order; what else is to be on keeps its place among them."""
        before = self.enabled()
        left = [module for module in modules if module in before]
        self._keep(before, [left.pop(0) if module in modules else module for module in before])

    def _keep(self, before: list[str], after: list[str]) -> None:
        if after == before:
            return
        if not after:
            self._remove([self.directory / ENABLED])
            return
        self.prepare()
        new = self.directory / f".{ENABLED}.new"
        _write_new(new, (json.dumps(after) + "\n").encode())
        new.replace(self.directory / ENABLED)

    def forget_boots(self) -> None:
        """What is on now was chosen anew: boots that ended badly before say nothing about it."""
        self._remove([self.boots])

    def manifest(self, module: str) -> dict[str, Any]:
        """The staged manifest of *module*."""
        try:
            return manifests.load(self._path(module, ".json"))
        except manifests.ManifestError as error:
            raise HostError("bad-manifest", str(error)) from error

    def signature(self, module: str) -> str | None:
        """The signature of the staged manifest, if it has one."""
        given = read_bytes(self._path(module, ".sig"))
        return None if given is None else given.decode("utf-8", "replace")

    def check_newer(self, manifest: dict[str, Any]) -> None:
        """Raise HostError if a newer build of the same module was here before."""
        try:
            newest.check(
                newest.read(self.newest), manifest, "to go back all the same, set downgrade (kpatch_downgrade)"
            )
        except newest.OlderError as error:
            raise HostError("older", str(error)) from error
        except newest.NewestError as error:
            raise HostError("bad-manifest", str(error)) from error

    def remember(self, seen: list[dict[str, Any]]) -> None:
        """Remember the builds *seen* as having been here."""
        try:
            before = newest.read(self.newest)
            after = newest.with_seen(before, seen)
            if after != before:
                self.prepare()
                newest.keep(self.newest, after)
        except newest.NewestError as error:
            raise HostError("io-error", str(error)) from error

    def check_room(self, size: int) -> None:
        """Raise HostError unless *size* bytes can be staged."""
        try:
            place = next(path for path in (self.directory, *self.directory.parents) if path.exists())
            status = os.statvfs(place)
        except OSError as error:
            raise from_oserror("look for room there", error, str(self.directory)) from error
        if status.f_flag & os.ST_RDONLY:
            raise HostError("read-only", f"{place}: its file system is read-only; mount it read-write")
        free = status.f_bavail * status.f_frsize
        if free < size + _SPARE_BYTES:
            needed = size + _SPARE_BYTES
            raise HostError("no-space", f"{place}: {free} bytes are free and {needed} are needed; make room there")
        if status.f_files and status.f_favail < _SPARE_INODES:
            raise HostError("no-space", f"{place}: there are no free inodes; remove files there")

    def prepare(self) -> None:
        """Make the directories, and refuse them if others than root could have put something there."""
        for path in (self.base, self.directory):
            try:
                path.mkdir(mode=0o700, parents=path is self.base, exist_ok=True)
                status = path.lstat()
            except OSError as error:
                raise from_oserror("make it", error, str(path)) from error
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
                message = f"{path}: it has to be a directory of root's that only root can write to; mend or remove it"
                raise HostError("not-permitted", message)

    def write(self, image: bytes, manifest: dict[str, Any], signature: str | None = None) -> None:
        """Put the checked .ko *image*, its manifest and that one's signature under temporary names."""
        module = manifest["module"]
        self.prepare()
        _write_new(self._new(module, ".ko"), image)
        self._remove([self._new(module, ".sig")])
        if signature:
            _write_new(self._new(module, ".sig"), signature.encode())
        _write_new(self._new(module, ".json"), manifests.dump(manifest).encode())

    def publish(self, module: str) -> None:
        """Give the artifact under temporary names its own ones; the manifest comes last."""
        try:
            if not self._new(module, ".sig").exists():  # nor may one stay that was another manifest's
                self._path(module, ".sig").unlink(missing_ok=True)
            for suffix in (".ko", ".sig", ".json"):
                if suffix != ".sig" or self._new(module, suffix).exists():
                    self._new(module, suffix).replace(self._path(module, suffix))
            fsync_directory(self.directory)
        except OSError as error:
            raise from_oserror("give the staged artifact its name", error) from error

    def discard(self, module: str) -> None:
        """Remove what lies under temporary names, and the directory if it is empty then."""
        self._remove([self._new(module, suffix) for suffix in (".ko", ".sig", ".json")])

    def remove(self, module: str) -> None:
        """Remove the staged artifact and what an interrupted run left of it, and the directory if it is empty then."""
        self._remove([self._path(module, suffix) for suffix in (".json", ".sig", ".ko")])
        self.discard(module)

    def tidy(self) -> None:
        """Remove the directory if it is empty."""
        self._remove([])

    @contextmanager
    def new_artifact(self, manifest: dict[str, Any]) -> Iterator[int]:
        """A descriptor for the artifact under its temporary name, whose bytes were compared through it."""
        with _open_checked(self._new(manifest["module"], ".ko"), manifest) as (handle, _image):
            yield handle

    @contextmanager
    def published_artifact(self, module: str) -> Iterator[tuple[int, dict[str, Any]]]:
        """The same for the artifact under its own name, with its manifest, signed if the host says so."""
        manifest = self.manifest(module)
        check_signer(self.root, manifest, self.signature(module))
        with _open_checked(self._path(module, ".ko"), manifest) as (handle, _image):
            yield handle, manifest

    def _path(self, module: str, suffix: str) -> Path:
        return self.directory / (module + suffix)

    def _new(self, module: str, suffix: str) -> Path:
        return self.directory / f".{module}{suffix}.new"

    def _remove(self, paths: list[Path]) -> None:
        try:
            for path in paths:
                path.unlink(missing_ok=True)
            if self.directory.is_dir() and not any(self.directory.iterdir()):
                self.directory.rmdir()
        except OSError as error:
            raise from_oserror("remove it", error) from error


def read_checked(path: Path, manifest: dict[str, Any]) -> bytes:
    """The bytes of *path*; HostError 'tampered' if they aren't the artifact of *manifest*."""
    with _open_checked(path, manifest) as (_handle, image):
        return image


@contextmanager
def _open_checked(path: Path, manifest: dict[str, Any]) -> Iterator[tuple[int, bytes]]:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise from_oserror("read it", error, str(path)) from error
    try:
        # One byte more than expected is enough to see that a file is too long.
        image = os.pread(handle, manifest["size"] + 1, 0)
        _compare(path, image, manifest)
        yield handle, image
    finally:
        os.close(handle)


def _compare(path: Path, image: bytes, manifest: dict[str, Any]) -> None:
    digest = hashlib.sha256(image).hexdigest()
    if (len(image), digest) != (manifest["size"], manifest["sha256"]):
        raise HostError(
            "tampered",
            f"{path}: is not the artifact of its manifest (sha256 {digest}, expected {manifest['sha256']} of "
            f"{manifest['size']} bytes): it was damaged or changed; ship or build it again",
        )


def _write_new(path: Path, content: bytes) -> None:
    """Write a file that wasn't there before, down to the disk."""
    try:
        # The lock is held: a file of this name was left behind by a run that was killed.
        path.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(path, flags, 0o600), "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise from_oserror("write it", error, str(path)) from error


def fsync_directory(path: Path) -> None:
    """Have the names in the directory *path* on disk."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _is_published(entry: Path) -> bool:
    return entry.suffix == ".ko" and not entry.name.startswith(".")
