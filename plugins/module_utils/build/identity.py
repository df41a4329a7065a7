# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which kernel is built for, and where its source is if it is no package's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import BuildError
from ansible_collections.kpatch.fleet.plugins.module_utils.manifest import check_release


class KernelSource(NamedTuple):
    """What a kernel was made from and what was made of it, by path on the builder."""

    tree: Path
    config: Path
    symvers: Path
    vmlinux: Path
    modules: Path | None = None  # None: it has none
    toolchain: Path | None = None  # the root whose programs made it; None: the builder's own

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> KernelSource:
        """From a module's option."""
        return cls(*(Path(given[key]) if given.get(key) else None for key in cls._fields))  # type: ignore[arg-type]

    def told(self) -> dict[str, str]:
        """The paths as JSON has them."""
        return {key: str(path) for key, path in self._asdict().items() if path is not None}


class Identity(NamedTuple):
    """A kernel as it presents itself: uname -r, uname -v and the build id in /sys/kernel/notes."""

    release: str
    version: str
    build_id: str
    source: KernelSource | None = None  # None: its packages say

    @classmethod
    def of(cls, kernel: Mapping[str, Any], source: Mapping[str, Any] | None = None) -> Identity:
        """From the `kernel` of a host's facts, and the option that says where its source is."""
        if kernel.get("machine", "x86_64") != "x86_64":
            raise BuildError(f"kernel {kernel.get('release')}: {kernel['machine']} is not served, only x86_64 is")
        release = check_release(kernel.get("release"))
        own = KernelSource.of(source) if source else None
        return cls(release, str(kernel.get("version")), str(kernel.get("build_id")), own)
