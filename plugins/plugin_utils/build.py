# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what a build needs from the controller, and starts the module on the builder with the contents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.kpatch.fleet.plugins.module_utils.manifest import ManifestError, check_name
from ansible_collections.kpatch.fleet.plugins.plugin_utils.follow import following

Result = dict[str, Any]

_KMOD = Path(__file__).resolve().parents[2] / "roles/builder/files/kmod"
_SUFFIXES = (".c", ".h", ".j2")
_NAMES = ("Kbuild", "Makefile")


class BuildAction(ActionBase):  # type: ignore[misc]
    """*kind* names the module that works on the builder: 'core_build', 'patch_build' or 'matrix_build'."""

    kind: str

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> Result:
        """One round trip."""
        result: Result = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        try:
            arguments.update(self._contents(arguments))
        except OSError as error:
            raise AnsibleActionFail(f"{error.filename}: can't be read on the controller: {error.strerror}") from error
        result.update(self._built(arguments, task_vars or {}))
        result.pop("invocation", None)  # it would repeat all of the C
        self._remove_tmp_path(self._connection._shell.tmpdir)
        return result

    def _built(self, arguments: dict[str, Any], variables: dict[str, Any]) -> Result:
        """What the module answers; what it says until then is shown as it says it."""
        place = self._connection._shell.join_path(self._make_tmp_path(), "progress")
        with following(self._connection, place, lambda line: self._display.display(f"  {line}")):
            answer: Result = self._execute_module(
                module_name=f"kpatch.fleet.{self.kind}",
                module_args={**arguments, "progress_file": place},
                task_vars=variables,
            )
        return answer

    def _contents(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """The arguments that carry the contents of files."""
        raise NotImplementedError

    def _kmod(self, arguments: dict[str, Any]) -> Path:
        """The directory with the C of the collection."""
        if arguments.get("kmod"):
            return Path(str(arguments["kmod"])).expanduser()
        if _KMOD.is_dir():
            return _KMOD
        raise AnsibleActionFail(f"the collection has no {_KMOD}; install it again, or name a directory with 'kmod'")


def patch_text(patch: dict[str, Any]) -> str:
    """The text of the source patch of *patch*, as an operator named it."""
    try:
        check_name(patch.get("name"))
        if not patch.get("source"):
            raise AnsibleActionFail(f"{patch['name']}: 'source' is missing; name the file with the diff")
        return Path(str(patch["source"])).expanduser().read_text(encoding="utf-8")
    except ManifestError as error:
        raise AnsibleActionFail(str(error)) from error
    except UnicodeDecodeError as error:
        raise AnsibleActionFail(f"{patch['source']}: is not a text in UTF-8: {error}") from error


def core_sources(kmod: Path) -> dict[str, str]:
    """The C of the core module."""
    return read_sources(kmod / "core")


def patch_sources(kmod: Path) -> dict[str, str]:
    """The C that a patch is built with, by file name: *kmod*/patch, and the headers that it and authors include."""
    headers = {name: (kmod / "core" / name).read_text(encoding="utf-8") for name in ("kpatch.h", "kpatch_author.h")}
    return {**read_sources(kmod / "patch"), **headers}


def read_sources(directory: Path) -> dict[str, str]:
    """The C, templates and makefiles in *directory*, by file name."""
    return {
        path.name: path.read_text(encoding="utf-8")
        for path in sorted(directory.iterdir())
        if path.is_file() and (path.suffix in _SUFFIXES or path.name in _NAMES) and not path.name.endswith(".mod.c")
    }
