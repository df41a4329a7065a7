# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compile the core module and the test modules against the headers packages of the kernel that runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from ansible_collections.kpatch.fleet.plugins.module_utils.build import debian

KMOD = Path(__file__).parents[2] / "kmod"
_COMMON = re.compile(r"\blinux-headers-[0-9A-Za-z.+~-]+-common\b")


def modules(release: str, version: str, cache: Path, scratch: Path) -> list[Path]:
    """The modules of kmod/, compiled in *scratch* for the kernel of `uname -r` and `uname -v`, without debug data."""
    headers = _headers(debian.identify(release, version), cache)
    shutil.copytree(KMOD / "core", scratch / "core")
    shutil.copytree(KMOD / "tests", scratch / "tests")
    _make(headers, scratch / "core")
    _make(headers, scratch / "tests", f"KBUILD_EXTRA_SYMBOLS={scratch}/core/Module.symvers")
    built = [*scratch.glob("core/*.ko"), *scratch.glob("tests/*.ko")]
    subprocess.run(["strip", "--strip-debug", *built], check=True)
    return built


def _make(headers: Path, directory: Path, *variables: str) -> None:
    done = subprocess.run(
        ["make", "-C", headers, f"M={directory}", f"-j{os.cpu_count()}", *variables, "modules"],
        capture_output=True,
        text=True,
        check=False,
    )
    # A warning from objtool is an unsafe module, not a matter of style.
    complaints = [line for line in (done.stdout + done.stderr).splitlines() if "warning:" in line]
    assert done.returncode == 0, done.stderr
    assert not complaints, "\n".join(complaints)


def _headers(kernel: debian.DebianKernel, cache: Path) -> Path:
    """The headers packages, unpacked side by side as they would be installed."""
    root = cache / "headers" / f"{kernel.release}_{kernel.version}"
    headers = root / "usr/src" / kernel.headers
    if not root.is_dir():
        scratch = root.with_name(root.name + ".part")
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        for package in _packages(kernel, cache / "downloads"):
            subprocess.run(["dpkg-deb", "-x", package, scratch], check=True)
        makefile = scratch / headers.relative_to(root) / "Makefile"
        makefile.write_text(makefile.read_text(encoding="utf-8").replace(" /usr/src/", f" {root}/usr/src/"))
        scratch.rename(root)
    return headers


def _packages(kernel: debian.DebianKernel, downloads: Path) -> list[Path]:
    headers = debian.fetch(kernel.headers, kernel.version, downloads)
    depends = subprocess.run(["dpkg-deb", "-f", headers, "Depends"], check=True, capture_output=True, text=True).stdout
    common = _COMMON.search(depends)
    assert common is not None, depends
    others = (common.group(), debian.kbuild_package(depends))
    return [headers, *(debian.fetch(name, kernel.version, downloads) for name in others)]
