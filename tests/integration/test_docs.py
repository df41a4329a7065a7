# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every ansible-playbook command of the pages for operators is run, against simulated hosts."""

from __future__ import annotations

import re
import shlex

from conftest import ROOT, Fleet

PAGES = ("README.md", "docs/quick-start.md", "docs/operators-guide.md", "docs/runbooks.md")
# They need machines or an AWX; make demo, make molecule and make awx-check run them.
ELSEWHERE = ("lab", "demo", "awx")
COMMANDS = sorted(
    {
        # The same command with another inventory is the same here.
        re.sub(r" -i \S+", "", line.partition("   ")[0])
        for page in PAGES
        for language, block in re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
        if not language
        for line in block.splitlines()
        if line.startswith("ansible-playbook ")
    }
)
ORDER = ("survey", "build", "rollout", "report", "status", "rollback")


def playbook(command: str) -> str:
    return next(word.removeprefix("kpatch.fleet.") for word in shlex.split(command) if word.startswith("kpatch.fleet."))


def test_commands_of_the_pages_work(fleet: Fleet) -> None:
    assert {playbook(command) for command in COMMANDS} >= {"survey", "build", "rollout", "status", "rollback", "report"}
    source = str(ROOT / "galaxy.yml")
    patches = (
        f'{{"kpatch_patches": [{{"name": "one", "source": "{source}"}}, {{"name": "two", "source": "{source}"}}]}}'
    )
    quick = '{"kpatch_policy": {"soak": 0}}'
    chosen = [command for command in COMMANDS if playbook(command) not in ELSEWHERE]
    for command in sorted(chosen, key=lambda one: ORDER.index(playbook(one))):
        words = shlex.split(command)[1:]
        options = [word for word in words if not word.startswith("kpatch.fleet.")]
        options = [option.replace("web1,web2", "h1,h2") for option in options]
        if "kpatch_retry" in command:
            # There has to be something to try again.
            fleet.run("rollback", "-e", patches, "-e", quick)
            fleet.update("h1", faults={"patch": "fail"})
            assert fleet.run("rollout", "-e", patches, "-e", quick).failed == ["h1"]
            fleet.update("h1", faults={})
        run = fleet.run(playbook(command), "-e", patches, "-e", quick, *options)
        assert run.status == 0, command
        if "kpatch_retry" in command:
            assert fleet.run("rollout", "-e", patches, "-e", quick).status == 0
