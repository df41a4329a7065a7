# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one artifact is: the manifest that the builder writes and the host side checks."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

FORMAT = 1
CORE_NAME = "kpatch"
KPATCH, LIVEPATCH = "kpatch", "livepatch"
BACKENDS = (KPATCH, LIVEPATCH)
LEAVE = ("function", "patched_set", "kernel")
SWITCH = ("function", "thread", "kernel")
# Pairs of the two that no backend gives, because they mean nothing; the core module says the same.
STOPPING, COUNTING = "stopping", "counting"
MEANS = (STOPPING, COUNTING)
NOT_GIVEN = {
    ("function", "thread"): "nobody has to leave anything, so no task ever gets to a moment to switch at",
    ("patched_set", "function"): "a task that has left all functions would meet old and new ones anyway",
    ("kernel", "function"): "a task that has left the kernel would meet old and new ones anyway",
}

_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
_RELEASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+~_-]{0,63}")
_MODULE = re.compile(r"[a-z][a-z0-9_]{0,54}")
# What a patch module's name in the kernel ends with: the first digits of its input digest.
_DIGEST_DIGITS = 6
_DIGEST = re.compile(rf"_x[0-9a-f]{{{_DIGEST_DIGITS}}}$")
_HEX = re.compile(r"[0-9a-f]+")
_CHUNK = 1 << 20


class ManifestError(ValueError):
    """A manifest, a name or an artifact is not what it has to be; the text names it and the mend."""


def check_name(name: Any) -> str:
    """Return *name* if it may name a patch, else raise ManifestError."""
    if isinstance(name, str) and _NAME.fullmatch(name):
        if _DIGEST.search(name.replace("-", "_")):
            raise ManifestError(f"{name!r} can't name a patch: it ends like the digest of a build; name it otherwise")
        return name
    raise ManifestError(
        f"{name!r} can't name a patch: use 1 to 40 lower-case letters, digits and '-', beginning with a letter"
    )


def check_release(release: Any) -> str:
    """Return *release* if it may be a kernel release (uname -r), else raise ManifestError."""
    if isinstance(release, str) and _RELEASE.fullmatch(release):
        return release
    raise ManifestError(f"{release!r} is not a kernel release as 'uname -r' prints it")


def module_name(name: str) -> str:
    """The module that the patch *name* is, whichever build of it; the core module keeps its own name."""
    check_name(name)
    return CORE_NAME if name == CORE_NAME else "kpatch_" + name.replace("-", "_")


def loaded_name(name: str, input_sha256: str) -> str:
    """What the kernel knows one build of the patch *name* as: two builds can be loaded at once, by different names."""
    return f"{module_name(name)}_x{input_sha256[:_DIGEST_DIGITS]}"


def loaded_as(manifest: dict[str, Any]) -> str:
    """What the kernel knows the artifact of *manifest* as; builds before November 2026 had the module's own name."""
    return str(manifest.get("loaded_as") or manifest["module"])


def module_of(loaded: str) -> str:
    """The module that the kernel knows as *loaded*, whichever build of it."""
    return _DIGEST.sub("", loaded)


def file_sha256(path: Path) -> str:
    """The sha256 of a file's bytes, as hex digits."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def dump(manifest: dict[str, Any]) -> str:
    """The one textual form of a checked manifest: sorted keys, two spaces, a newline at the end."""
    return json.dumps(check(manifest), indent=2, sort_keys=True) + "\n"


def load(path: Path) -> dict[str, Any]:
    """Read and check the manifest at *path*."""
    try:
        return check(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ManifestError(f"{path}: can't be read: {error.strerror}") from error
    except ValueError as error:
        raise ManifestError(f"{path}: {error}; build the artifact again") from error


def check_file(manifest: dict[str, Any], path: Path) -> None:
    """Raise ManifestError unless the file at *path* is the artifact that *manifest* describes."""
    try:
        size = path.stat().st_size
        digest = file_sha256(path)
    except OSError as error:
        raise ManifestError(f"{path}: can't be read: {error.strerror}") from error
    if (size, digest) != (manifest["size"], manifest["sha256"]):
        raise ManifestError(
            f"{path}: is not the artifact of its manifest (sha256 {digest}, {size} bytes; "
            f"expected {manifest['sha256']}, {manifest['size']} bytes): "
            "it was damaged or changed; build or ship it again"
        )


def check(manifest: Any) -> dict[str, Any]:
    """Return *manifest* if every key has the form that docs/architecture.md gives it, else raise ManifestError."""
    if not isinstance(manifest, dict):
        raise ManifestError("the manifest is not a JSON object")
    _expect("format", manifest.get("format"), manifest.get("format") == FORMAT)
    _expect("kind", manifest.get("kind"), manifest.get("kind") in ("core", "patch"))
    check_name(manifest.get("name"))
    _expect("kind", manifest["kind"], (manifest["kind"] == "core") == (manifest["name"] == CORE_NAME))
    _expect("module", manifest.get("module"), manifest.get("module") == module_name(manifest["name"]))
    _check_loaded_as(manifest)
    _expect("file", manifest.get("file"), manifest.get("file") == manifest["module"] + ".ko")
    _expect("backend", manifest.get("backend"), manifest.get("backend") in BACKENDS)
    for key in ("abi", "size"):
        value = manifest.get(key)
        _expect(key, value, isinstance(value, int) and not isinstance(value, bool) and value > 0)
    serial = manifest.get("serial", 0)
    _expect("replace", manifest.get("replace", False), isinstance(manifest.get("replace", False), bool))
    _expect("serial", serial, isinstance(serial, int) and not isinstance(serial, bool) and 0 <= serial < 1 << 40)
    for key in ("source_sha256", "input_sha256", "sha256"):
        value = manifest.get(key)
        _expect(key, value, isinstance(value, str) and len(value) == 64 and bool(_HEX.fullmatch(value)))
    for key in ("srcversion", "compiler"):
        _expect(key, manifest.get(key), isinstance(manifest.get(key), str) and bool(manifest[key]))
    _expect("build_id", manifest.get("build_id"), _is_hex(manifest.get("build_id")))
    _check_kernel(manifest.get("kernel"))
    _check_signer(manifest.get("signer"))
    _check_consistency(manifest["kind"], manifest.get("consistency"))
    _check_functions("functions", manifest.get("functions"), ("object", "name", "reason"), sympos=True)
    _check_functions("added", manifest.get("added"), ("object", "name", "reason"), sympos=False)
    return manifest


def _check_loaded_as(manifest: dict[str, Any]) -> None:
    """The name that the loader would refuse is refused here, and one that is another patch's."""
    name = loaded_as(manifest)
    _expect("loaded_as", name, _MODULE.fullmatch(name) is not None and module_of(name) == manifest["module"])
    _expect("loaded_as", name, manifest["kind"] == "patch" or name == CORE_NAME)


def _check_kernel(kernel: Any) -> None:
    _expect("kernel", kernel, isinstance(kernel, dict))
    check_release(kernel.get("release"))
    _expect("kernel.build_id", kernel.get("build_id"), _is_hex(kernel.get("build_id")))
    for key in ("vermagic", "arch", "package"):
        _expect("kernel." + key, kernel.get(key), isinstance(kernel.get(key), str))


def _check_signer(signer: Any) -> None:
    """Whose signature the kernel finds in the module; None if nobody's."""
    if signer is None:
        return
    _expect("signer", signer, isinstance(signer, dict))
    _expect("signer.subject", signer.get("subject"), isinstance(signer.get("subject"), str))
    _expect("signer.key_id", signer.get("key_id"), _is_hex(signer.get("key_id")))


def _check_consistency(kind: str, consistency: Any) -> None:
    if kind == "core":
        _expect("consistency", consistency, consistency is None)
        return
    _expect("consistency", consistency, isinstance(consistency, dict))
    _expect("consistency.leave", consistency.get("leave"), consistency.get("leave") in LEAVE)
    _expect("consistency.switch", consistency.get("switch"), consistency.get("switch") in SWITCH)
    _expect("consistency.means", consistency.get("means"), consistency.get("means", STOPPING) in MEANS)


def _check_functions(key: str, functions: Any, texts: tuple[str, ...], sympos: bool) -> None:
    _expect(key, functions, isinstance(functions, list))
    for function in functions:
        _expect(key, function, isinstance(function, dict))
        for text in texts:
            _expect(f"{key}.{text}", function.get(text), isinstance(function.get(text), str))
        if sympos:
            position = function.get("sympos")
            _expect(f"{key}.sympos", position, isinstance(position, int) and position >= 0)


def _is_hex(value: Any) -> bool:
    return isinstance(value, str) and bool(_HEX.fullmatch(value))


def _expect(key: str, value: Any, holds: bool) -> None:
    if not holds:
        raise ManifestError(f"the manifest's '{key}' can't be {value!r}")
