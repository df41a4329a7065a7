# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The compiler and what goes with it: this machine's own, or those of another Debian suite in a root of their own.

``<cache>/toolchains/<suite>-<compiler>_<version>/`` is such a root. A suite that is not finished goes on to other
compilers: the root that has a kernel's own is named by it and kept. Its programs run with the root's ``/usr`` and
``/etc`` in the place of this machine's; all other paths are what they are outside.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from ansible_collections.kpatch.fleet.plugins.module_utils.archive import Archive, ArchiveError, open_archive
from ansible_collections.kpatch.fleet.plugins.module_utils.build import waiting
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import BuildError
from ansible_collections.kpatch.fleet.plugins.module_utils.build.run import Arg, clean_environment, run

# "x86_64-linux-gnu-gcc-14 (Debian 14.2.0-19) 14.2.0"
_BANNER = re.compile(r"(?:x86_64-linux-gnu-)?(?P<package>gcc-[0-9]+) \(Debian (?P<version>[^) ]+)\) ")
_CODENAME = re.compile(r'^VERSION_CODENAME="?([a-z]+)"?$', re.MULTILINE)

# Beside the compiler: what kbuild calls, and what its own programs are compiled with when `make prepare` has to run.
_PACKAGES = (
    *("bc", "binutils", "bison", "cpio", "flex", "kmod", "libc6-dev", "libelf-dev", "libssl-dev", "make", "perl"),
    *("python3-minimal", "rsync", "xz-utils", "zlib1g-dev"),
)
# bullseye would unpack into /bin and /lib, but only /usr is shown in the place of this machine's.
_MERGE_USR = 'for d in bin lib lib64 sbin; do mkdir -p "$1/usr/$d"; ln -s "usr/$d" "$1/$d"; done'
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_RELEASE_FILE = Path("/etc/os-release")


@dataclass(frozen=True)
class Toolchain:
    """Programs to build with; *root* is None if they are this machine's own."""

    root: Path | None = None

    def run(
        self,
        argv: Sequence[Arg],
        cwd: Path | None = None,
        env: dict[str, str] | None = None,
        warnings: bool = False,
        first: Path | None = None,
    ) -> str:
        """As run.run(), with these programs, before which those in the directory *first* come."""
        environment = clean_environment() if env is None else dict(env)
        if self.root is not None:
            environment["PATH"] = _PATH
        if first is not None:
            environment["PATH"] = f"{first}:{environment['PATH']}"
        return run(self.command(argv), cwd, environment, warnings)

    def command(self, argv: Sequence[Arg]) -> list[Arg]:
        """What has to be run for *argv* to be run with these programs."""
        if self.root is None:
            return list(argv)
        show: list[Arg] = ["--dev-bind", "/", "/"]
        for part in ("usr", "etc"):
            show += ["--ro-bind", self.root / part, f"/{part}"]
        return ["bwrap", "--die-with-parent", *show, "--", *argv]

    def which(self, program: str) -> str:
        """Where a program is, for those that run with these."""
        return str(shutil.which(program) if self.root is None else f"/usr/bin/{program}")


def of(cache: Path, suite: str, compiler: str) -> Toolchain:
    """What builds for a kernel of *suite* that *compiler*, its banner, has built. It may have yet to be made."""
    if suite == _own_suite():
        return Toolchain()
    package, version = _named(compiler)
    return Toolchain(cache.resolve() / "toolchains" / f"{suite}-{package}_{version}")


def ensure(cache: Path, suite: str, compiler: str, say: Callable[[str], None]) -> None:
    """Make it if it has yet to be made."""
    chain = of(cache, suite, compiler)
    if chain.root is not None and not chain.root.is_dir():
        with _locked(chain.root, say):
            if not chain.root.is_dir():
                say(f"making a root with '{compiler}' from Debian's {suite}")
                _make(chain.root, open_archive(cache, suite), compiler)


def check(chain: Toolchain, compiler: str, release: str) -> None:
    """Raise BuildError unless *chain* has the very *compiler* that the kernel was built with."""
    name = compiler.split()[0]
    banner = chain.run([name, "--version"]).splitlines()[0]
    if banner != compiler:
        mend = f"install that version of {name} on the builder" if chain.root is None else f"remove {chain.root}"
        raise BuildError(f"kernel {release} was built with '{compiler}', but {name} here is '{banner}': {mend}")


def _own_suite() -> str:
    found = _CODENAME.search(_RELEASE_FILE.read_text(encoding="utf-8")) if _RELEASE_FILE.exists() else None
    return found[1] if found else ""


def _named(compiler: str) -> tuple[str, str]:
    """The package that a compiler comes in, and its version, from the compiler's banner."""
    match = _BANNER.match(compiler)
    if match is None:
        raise BuildError(f"'{compiler}' is none of Debian's compilers; kpatch.fleet doesn't know where to take it from")
    return match["package"], match["version"]


def _make(root: Path, archive: Archive, compiler: str) -> None:
    package, version = _named(compiler)
    with tempfile.TemporaryDirectory(dir=root.parent, prefix=f".{root.name}.") as scratch:
        work = Path(scratch) / "root"
        try:
            _bootstrap(Path(scratch), work, archive, f"{package}={version}")
        except (ArchiveError, BuildError) as error:
            raise BuildError(
                f"a root with '{compiler}' can't be made ({error}); if Debian's {archive.suite} has gone on to another "
                f"version, take {root} from a builder that has it, or let the hosts boot the suite's current kernel"
            ) from error
        work.rename(root)


def _bootstrap(scratch: Path, work: Path, archive: Archive, compiler: str) -> None:
    settings, sources = scratch / "apt.conf", scratch / "sources.list"
    settings.touch(mode=0o600)
    settings.write_text(archive.settings(), encoding="utf-8")
    sources.write_text(archive.sources(), encoding="utf-8")
    options = ["--variant=minbase", f"--aptopt={settings}", f"--include={','.join([compiler, *_PACKAGES])}"]
    hooks = [f"--setup-hook={_MERGE_USR}", '--customize-hook=rm -rf "$1/usr/share/doc" "$1/usr/share/locale"']
    run(["mmdebstrap", *options, *hooks, archive.suite, work, sources])


@contextlib.contextmanager
def _locked(root: Path, say: Callable[[str], None]) -> Iterator[None]:
    with waiting.held(root.with_name(f"{root.name}.lock"), f"the root {root.name}", say):
        for leftover in root.parent.glob(f".{root.name}.*"):
            shutil.rmtree(leftover)  # a killed run's; the lock says that nobody is at work on it
        yield
