# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian's archive, one suite at a time: through this machine's apt, or beside it with an apt state of its own.

A suite that this machine's own sources offer is asked of its apt. Any other has its lists in
``<cache>/archives/<suite>/``; it comes from the same mirrors, and nothing of it is known to this machine's apt.
"""

# run_command(), which pylint would have, is AnsibleModule's; this runs without one, too.
# pylint: disable=ansible-bad-function
from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_MEND = "run 'apt-get update' and look at /etc/apt/sources.list and /etc/apt/sources.list.d"
_FORMAT = "$(REPO_URI) $(RELEASE) $(COMPONENT) $(ORIGIN)"
_SETTINGS = re.compile(r"^Acquire::(http|https|ftp|Retries|Check-Date|Check-Valid-Until)\b.*[^;]*;$", re.MULTILINE)
_MAX_AGE = 24 * 3600
_TAIL_LINES = 12

# A suite that nobody releases any more, and one that is not released yet: their Release files are older than they
# say they may be (bullseye-security since its end, forky between two runs of its archive).
_LAPSING = ("bullseye", "forky")


class ArchiveError(Exception):
    """Debian's archive doesn't give what is needed; the text names it and the mend."""


class Target(NamedTuple):
    """One index that this machine's apt knows of."""

    uri: str
    release: str
    component: str


class Archive:
    """One suite. *home* holds an apt state of its own, or is None if this machine's apt offers the suite."""

    def __init__(self, suite: str, targets: Sequence[Target], home: Path | None) -> None:
        self.suite = suite
        self._targets = targets
        self._home = home

    def sources(self) -> str:
        """The suite, its updates and its security updates, in the form of sources.list."""
        lines = {
            f"deb [signed-by={KEYRING}] {target.uri} {target.release} {target.component}": None
            for target in self._targets
        }
        return "\n".join(lines) + "\n"

    def settings(self) -> str:
        """How this machine's apt reaches its mirrors (proxies, clock checks), for another apt to do the same."""
        lines = [match.group(0) for match in _SETTINGS.finditer(_run(["apt-config", "dump"]))]
        if self.suite in _LAPSING:
            lines.append('Acquire::Check-Valid-Until "false";')
        return "\n".join(lines) + "\n"

    def candidate(self, package: str) -> str:
        """The version of *package* that apt would install."""
        found = re.search(r"Candidate: (\S+)", self._apt("apt-cache", "policy", package))
        if found is None or found.group(1) == "(none)":
            raise ArchiveError(f"Debian's '{self.suite}' has no package '{package}'; {_MEND}")
        return found.group(1)

    def depends(self, package: str) -> str:
        """What *package* depends on, as its candidate says it."""
        shown = self._apt("apt-cache", "show", f"{package}={self.candidate(package)}")
        found = re.search(r"^Depends: (.*)$", shown, re.MULTILINE)
        return found.group(1) if found else ""

    def having(self, pattern: str, version: str) -> list[str]:
        """The packages whose names match *pattern* and that the suite has in exactly *version*."""
        lines = self._apt("apt-cache", "search", "--names-only", pattern).splitlines()
        names = sorted({line.split(" - ", 1)[0] for line in lines})
        if not names:
            return []
        offers = (line.split("|") for line in self._apt("apt-cache", "madison", *names).splitlines())
        return sorted({offer[0].strip() for offer in offers if offer[1].strip() == version})

    def download(self, name: str, version: str, directory: Path) -> None:
        """Put the package file *name* of exactly *version* into *directory*."""
        command = ("apt-get", "-o", "APT::Sandbox::User=root", "-q", "download", f"{name}={version}")
        try:
            self._apt(*command, cwd=directory)
        except ArchiveError as error:
            raise ArchiveError(
                f"{name}={version} can't be downloaded from Debian's '{self.suite}' ({error}); run 'apt-get update', "
                "and if the package has left the archive, add a source that still carries it"
            ) from error

    def _apt(self, *command: str, cwd: Path | None = None) -> str:
        if self._home is None:
            return _run(command, cwd)
        with _locked(self._home.with_name(self._home.name + ".lock")):
            config = self._refreshed(self._home)
        return _run(command, cwd, config)

    def _refreshed(self, home: Path) -> Path:
        """The configuration of an apt whose lists are there and not older than a day."""
        config, stamp = home / "apt.conf", home / "updated"
        if stamp.exists() and (home / "sources.list").read_text(encoding="utf-8") == self.sources():
            if time.time() - stamp.stat().st_mtime < _MAX_AGE:
                return config
        else:
            shutil.rmtree(home, ignore_errors=True)
            self._set_up(home, config)
        _run(["apt-get", "-q", "--error-on=any", "update"], config=config)
        stamp.touch()
        return config

    def _set_up(self, home: Path, config: Path) -> None:
        for directory in ("lists/partial", "cache/archives/partial"):
            (home / directory).mkdir(parents=True)
        (home / "status").touch()
        (home / "sources.list").write_text(self.sources(), encoding="utf-8")
        own = {
            "Dir::Etc::parts": "/dev/null",
            "Dir::Etc::sourcelist": home / "sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::State": home,
            "Dir::State::status": home / "status",
            "Dir::Cache": home / "cache",
            "Acquire::Languages": "none",
            "APT::Sandbox::User": "root",
        }
        config.touch(mode=0o600)  # a proxy's name may hold a password
        lines = [f'{name} "{value}";' for name, value in own.items()]
        config.write_text("\n".join([*lines, self.settings()]), encoding="utf-8")


def open_archive(cache: Path, suite: str) -> Archive:
    """Debian's *suite*; what has to be remembered of it is kept in *cache*."""
    # apt itself is asked: it has read one-line and deb822 files alike, and knows which are Debian's.
    known = debian_targets(_run(["apt-get", "indextargets", "--format", _FORMAT, "Created-By: Packages"]))
    own = select_targets(known, suite)
    if own:
        return Archive(suite, own, None)
    return Archive(suite, targets_elsewhere(known, suite), cache.expanduser().resolve() / "archives" / suite)


def debian_targets(listing: str) -> list[Target]:
    """The lines of `apt-get indextargets` that are Debian's."""
    words = (line.split() for line in listing.splitlines())
    return [Target(*fields[:3]) for fields in words if len(fields) == 4 and fields[3] == "Debian"]


def select_targets(known: Sequence[Target], suite: str) -> list[Target]:
    """Those that are of *suite*; none, unless the suite is there with its security updates."""
    releases = (suite, f"{suite}-updates", f"{suite}-security")
    found = [target for target in known if target.release in releases]
    offered = {target.release for target in found}
    return found if {suite, f"{suite}-security"} <= offered else []


def targets_elsewhere(known: Sequence[Target], suite: str) -> list[Target]:
    """*suite* on the mirrors that carry the suites of this machine."""
    security = [target.uri for target in known if target.release.endswith("-security")]
    main = [target.uri for target in known if "-" not in target.release]
    if not main or not security:
        raise ArchiveError(f"this machine's apt has no mirror of Debian and of its security updates; {_MEND}")
    return [
        Target(main[0], suite, "main"),
        Target(main[0], f"{suite}-updates", "main"),
        Target(security[0], f"{suite}-security", "main"),
    ]


def _run(command: Sequence[str], cwd: Path | None = None, config: Path | None = None) -> str:
    # LC_ALL=C: what is printed is parsed and shown, whatever the operator's language is.
    environment = {**os.environ, "LC_ALL": "C"}
    if config is not None:
        environment["APT_CONFIG"] = str(config)
    try:
        done = subprocess.run(
            command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        raise ArchiveError(f"'{command[0]}' is not installed: this needs a Debian machine") from error
    if done.returncode != 0:
        lines = [line.rstrip() for line in done.stderr.splitlines() if line.strip()][-_TAIL_LINES:]
        raise ArchiveError(f"'{command[0]}' failed (exit code {done.returncode}): {' '.join(lines)}; {_MEND}")
    return done.stdout


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="ascii") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
