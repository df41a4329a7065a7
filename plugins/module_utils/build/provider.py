# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a kernel's source and what was built of it come from: Debian's packages, or paths on the builder."""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Protocol

from ansible_collections.kpatch.fleet.plugins.module_utils.build import toolchain
from ansible_collections.kpatch.fleet.plugins.module_utils.build.debian import Packages, suite_of
from ansible_collections.kpatch.fleet.plugins.module_utils.build.generic import Given
from ansible_collections.kpatch.fleet.plugins.module_utils.build.identity import Identity
from ansible_collections.kpatch.fleet.plugins.module_utils.build.toolchain import Toolchain

Say = Callable[[str], None]


class Provider(Protocol):
    """Gives the parts of one prepared kernel, each into a place that is not there yet; in the order of the methods."""

    @property
    def mend(self) -> str:
        """What to do if the parts are not those of the kernel that runs."""

    def fetch(self, say: Say) -> None:
        """See to it that everything is there, so that what is missing is known before anything is unpacked."""

    def vmlinux(self, destination: Path) -> None:
        """The kernel's ELF file with its symbols."""

    def modules(self, destination: Path) -> None:
        """The modules as the kernel loads them, with their symbol tables."""

    def source(self, source: Path, objects: Path) -> str:
        """The kernel's source, without what no object for this machine is made of, and what kbuild expects in the
        folder where it puts *objects*. Returns what tells this source from others, for the manifest: its package.
        """


def provider(cache: Path, kernel: Identity) -> Provider:
    """The one for *kernel*."""
    return Packages(cache, kernel) if kernel.source is None else Given(kernel, kernel.source)


def tools(cache: Path, kernel: Identity, package: str, compiler: str) -> Toolchain:
    """What builds for *kernel*, by its package and its compiler's banner. It may have yet to be made."""
    if kernel.source is None:
        return toolchain.of(cache, suite_of(package), compiler)
    return Toolchain(kernel.source.toolchain)


def ensure_tools(cache: Path, kernel: Identity, package: str, compiler: str, say: Say) -> None:
    """Make them if they have yet to be made."""
    if kernel.source is None:
        toolchain.ensure(cache, suite_of(package), compiler, say)
