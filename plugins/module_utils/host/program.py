# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes a program of the host's own code, one file that runs there without Ansible: for timers and units."""

from __future__ import annotations

import importlib
import inspect
import io
import sys
import zipfile

_OURS = "ansible_collections.kpatch.fleet.plugins.module_utils."
# The same code has to give the same bytes.
_DATE = (1980, 1, 1, 0, 0, 0)


def program(name: str) -> bytes:
    """A zip file with *name*, a module of host/ with a main(), and all of ours that it imports."""
    entry = f"{_OURS}host.{name}"
    importlib.import_module(entry)
    needed = sorted(module for module in _imports(entry))
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        _add(archive, "__main__.py", f"import sys\n\nfrom {entry} import main\n\nsys.exit(main())\n")
        for package in sorted({parent for module in needed for parent in _parents(module)}):
            _add(archive, f"{package}/__init__.py", "")
        for module in needed:
            _add(archive, module.replace(".", "/") + ".py", inspect.getsource(sys.modules[module]))
    return b"#!/usr/bin/env python3\n" + stream.getvalue()


def _imports(name: str) -> set[str]:
    """*name* and the modules of ours that it imports, directly or not."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        module = waiting.pop()
        if module in found:
            continue
        found.add(module)
        waiting += [
            other
            for value in vars(sys.modules[module]).values()
            for other in [value.__name__ if inspect.ismodule(value) else getattr(value, "__module__", None)]
            if isinstance(other, str) and other.startswith(_OURS)
        ]
    return found


def _parents(module: str) -> list[str]:
    """The packages around a module, which a zip file has to name."""
    parts = module.split(".")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def _add(archive: zipfile.ZipFile, name: str, content: str) -> None:
    archive.writestr(zipfile.ZipInfo(name, _DATE), content)
