# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings an artifact from the builder's store into the controller's."""

from __future__ import annotations

import base64
import shutil
import tempfile
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.kpatch.fleet.plugins.module_utils import manifest as manifests

Result = dict[str, Any]
from ansible_collections.kpatch.fleet.plugins.module_utils.signature import NAME as SIGNATURE

# What lies beside a patch module for people and programs to read.
REPORTS = ("report.json", "report.txt")


class ActionModule(ActionBase):  # type: ignore[misc]
    """Nothing is fetched if the artifact is there, as it is where the builder is the controller."""

    TRANSFERS_FILES = False
    SPEC = {
        "path": {"type": "str", "required": True},
        "manifest": {"type": "dict", "required": True},
        "store": {"type": "path", "required": True},
        "signature": {"type": "str"},
    }

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> Result:
        """Whole, by rename, and checked against the manifest before it has its name."""
        result: Result = super().run(tmp, task_vars)
        _checked, arguments = self.validate_argument_spec(argument_spec=self.SPEC)
        self._variables = task_vars or {}
        try:
            manifest = manifests.check(arguments["manifest"])
            place = Path(arguments["store"]).expanduser() / manifest["kernel"]["release"] / manifest["name"]
            target = place / str(manifest["input_sha256"])
            fetched = not _is_there(target, manifest)
            if fetched and not self._task.check_mode:
                self._fetch(arguments["path"], manifest, target)
            signed = not self._task.check_mode and _signed(target / SIGNATURE, arguments["signature"])
            pointed = not self._task.check_mode and _point(place / "current", target.name)
        except manifests.ManifestError as error:
            raise AnsibleActionFail(str(error)) from error
        except OSError as error:
            raise AnsibleActionFail(f"{error.filename}: can't be written: {error.strerror}") from error
        return {**result, "changed": fetched or signed or pointed, "path": str(target)}

    def _fetch(self, source: str, manifest: dict[str, Any], target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=".fetched-"))
        try:
            (temporary / manifest["file"]).write_bytes(self._read(f"{source}/{manifest['file']}"))
            manifests.check_file(manifest, temporary / manifest["file"])
            (temporary / "manifest.json").write_text(manifests.dump(manifest), encoding="utf-8")
            for name in REPORTS if manifest["kind"] == "patch" else ():
                (temporary / name).write_bytes(self._read(f"{source}/{name}"))
            temporary.chmod(0o755)
            shutil.rmtree(target, ignore_errors=True)
            temporary.replace(target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _read(self, path: str) -> bytes:
        found = self._execute_module(
            module_name="ansible.builtin.slurp", module_args={"src": path}, task_vars=self._variables
        )
        if "content" not in found:
            raise AnsibleActionFail(f"{path}: can't be read on the builder: {found.get('msg')}; build again")
        return base64.b64decode(found["content"])


def _is_there(target: Path, manifest: dict[str, Any]) -> bool:
    try:
        manifests.check_file(manifest, target / str(manifest["file"]))
        return manifests.load(target / "manifest.json") == manifest
    except manifests.ManifestError:
        return False


def _signed(place: Path, signature: str | None) -> bool:
    """Put the signature into its place; whether it was not there."""
    if not signature or (place.is_file() and place.read_text(encoding="utf-8") == signature):
        return False
    temporary = place.with_name(f".{place.name}")
    temporary.write_text(signature, encoding="utf-8")
    temporary.replace(place)
    return True


def _point(link: Path, target: str) -> bool:
    """Let *link* name *target*; whether it did not before."""
    if link.is_symlink() and str(link.readlink()) == target:
        return False
    temporary = link.with_name(f".{link.name}.{target[:12]}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(link)
    return True
