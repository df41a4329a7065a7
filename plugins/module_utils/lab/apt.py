# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What this machine's apt knows: its Debian mirrors and the versions that they offer now."""

from __future__ import annotations

import re

from ansible_collections.kpatch.fleet.plugins.module_utils.lab.base import LabError, run

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_MEND = "run 'apt-get update' and look at /etc/apt/sources.list and /etc/apt/sources.list.d"
_FORMAT = "$(REPO_URI) $(RELEASE) $(COMPONENT) $(ORIGIN)"
_SETTINGS = re.compile(r"^Acquire::(http|https|ftp|Retries|Check-Date|Check-Valid-Until)\b.*[^;]*;$", re.MULTILINE)


def sources(suite: str) -> str:
    """One-line sources for *suite*, its updates and its security updates, from this machine's own mirrors."""
    # apt itself is asked: it has read one-line and deb822 files alike, and knows which are Debian's.
    found = run(["apt-get", "indextargets", "--format", _FORMAT, "Created-By: Packages"], _MEND)
    return select_sources(found, suite)


def select_sources(targets: str, suite: str) -> str:
    """The lines of `apt-get indextargets` that are Debian's and of *suite*, in the form of sources.list."""
    releases = (suite, f"{suite}-updates", f"{suite}-security")
    lines: dict[str, None] = {}
    for line in targets.splitlines():
        words = line.split()
        if len(words) == 4 and words[1] in releases and words[3] == "Debian":
            lines[f"deb [signed-by={KEYRING}] {words[0]} {words[1]} {words[2]}"] = None
    for needed in (suite, f"{suite}-security"):
        if not any(f" {needed} " in line for line in lines):
            raise LabError(f"this machine's apt sources don't offer Debian's '{needed}' (main); {_MEND}")
    return "\n".join(lines) + "\n"


def candidate(package: str) -> str:
    """The version of *package* that apt would install."""
    found = re.search(r"Candidate: (\S+)", run(["apt-cache", "policy", package], _MEND))
    if found is None or found.group(1) == "(none)":
        raise LabError(f"apt doesn't know the package '{package}'; {_MEND}")
    return found.group(1)


def settings() -> str:
    """How this machine's apt reaches its mirrors (proxies, clock checks), for another apt to do the same."""
    return "\n".join(match.group(0) for match in _SETTINGS.finditer(run(["apt-config", "dump"], _MEND)))
