# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the pages promise is there: links, playbooks, make targets, variables, a runbook for each state and reason."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils.host.errors import REASONS
from ansible_collections.kpatch.fleet.plugins.plugin_utils.states import STATES

ROOT = Path(__file__).resolve().parents[3]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *ROOT.glob("roles/*/README.md"),
]
TEXTS = {str(page.relative_to(ROOT)): page.read_text() for page in PAGES}
# Blocks without a language are what is typed into a shell.
COMMANDS = [
    (name, line)
    for name, text in TEXTS.items()
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    if not language
    for line in block.splitlines()
    if line.startswith(("ansible-playbook", "make "))
]


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as forges make them."""
    heads = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("name", TEXTS)
def test_links_within_the_project_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"^```.*?^```", "", TEXTS[name], flags=re.M | re.S)):
        if target.startswith(("http://", "https://")):
            continue
        path, _mark, anchor = target.partition("#")
        page = (ROOT / name).parent / path if path else ROOT / name
        assert page.exists(), target
        assert not anchor or anchor in anchors(page.read_text()), target


@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=[f"{page}: {command}" for page, command in COMMANDS])
def test_commands_name_what_is_there(page: str, command: str) -> None:
    words = shlex.split(command, comments=True)
    if words[0] == "make":
        targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        assert {word for word in words[1:] if "=" not in word} <= targets
        return
    playbooks = [word for word in words if word.startswith("kpatch.fleet.")]
    assert playbooks
    assert all((ROOT / f"playbooks/{name.split('.')[2]}.yml").exists() for name in playbooks)
    read = "".join(path.read_text() for path in [*ROOT.glob("roles/*/defaults/*.yml"), *ROOT.glob("playbooks/*.yml")])
    for variable in re.findall(r"\bkpatch_[a-z_]+", " ".join(words)):
        assert variable in read, variable


# What else is typed, and the file that runs it with the same words: each as a regular expression and its evidence.
ELSEWHERE = {
    r"apt-get update && apt-get install -y make git": (".ci/run", "install --no-install-recommends make"),
    r"ansible-galaxy collection build": ("scripts/package", "ansible-galaxy collection build"),
    r"ansible-galaxy collection install kpatch-fleet-1\.0\.0\.tar\.gz": (
        "scripts/package-check",
        "ansible-galaxy collection install",
    ),
    r"ansible-galaxy collection build && ansible-galaxy collection install \S+": (
        "scripts/lib.sh",
        "ansible-galaxy collection install",
    ),
    r"apt-get install -y python3-venv openssh-client": ("scripts/lib.sh", "debian_packages python3-venv"),
    r"python3 -m venv ~/kpatch( && \. ~/kpatch/bin/activate)?": ("scripts/lib.sh", "/usr/bin/python3 -m venv"),
    # What activation does is to put the environment's commands first.
    r"\. ~/kpatch/bin/activate": ("scripts/lib.sh", "PATH=$VENV/bin:$PATH"),
    r"pip install -r requirements\.txt": ("scripts/lib.sh", "virtual_environment requirements.txt"),
    r"ssh-keygen -t ed25519 -f \S+": ("tests/unit/build/test_signature.py", "ed25519"),
    r"openssl req -new -x509 .*": ("tests/unit/build/test_module_signature.py", "openssl"),
    r"scripts/objdiff \S+ \S+": ("tests/unit/build/test_objdiff.py", "scripts/objdiff"),
    r"python3 -m ansible_collections\.kpatch\.fleet\S+\.objdiff \S+ \S+": (
        "scripts/objdiff",
        "ansible_collections.kpatch.fleet.plugins.module_utils.build.objdiff",
    ),
}
TYPED = [
    (name, line)
    for name, text in TEXTS.items()
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    if not language and block.isascii() and not block.startswith("<")
    for line in block.splitlines()
    if not line.startswith(("ansible-playbook ", "make ", " "))
]


@pytest.mark.parametrize(("page", "command"), TYPED, ids=[f"{page}: {command}" for page, command in TYPED])
def test_every_other_command_is_run_somewhere(page: str, command: str) -> None:
    """A command that nobody runs is a command that does not work any more."""
    found = [run for pattern, run in ELSEWHERE.items() if re.fullmatch(pattern, command.partition("   ")[0].strip())]
    assert found, page
    path, words = found[0]
    assert words in (ROOT / path).read_text(), path


@pytest.mark.parametrize("example", sorted((ROOT / "docs/examples").glob("*.patch")), ids=lambda path: path.stem)
def test_the_guide_shows_the_examples_that_kernels_run(example: Path) -> None:
    assert f"```diff\n{example.read_text()}```\n" in TEXTS["docs/patch-author-guide.md"]
    assert f'example("{example.stem}")' in (ROOT / "tests/kernel/test_author.py").read_text()


@pytest.mark.parametrize("state", STATES)
def test_every_state_has_a_runbook(state: str) -> None:
    assert f"\n### {state}\n" in TEXTS["docs/runbooks.md"]


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_has_a_runbook(reason: str) -> None:
    assert f"\n### Reason {reason}\n" in TEXTS["docs/runbooks.md"]
