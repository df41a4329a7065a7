# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One booted machine, with the demo's patch set built for it, for the faults that no simulated host can show."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/kernel"))
from host import Host  # noqa: E402

CACHE = Path(os.environ.get("KPATCH_CACHE") or Path.home() / ".cache/kpatch.fleet")
# Two runs at once need two labs.
LAB = os.environ.get("KPATCH_LAB", "faults")
SERIES = os.environ.get("SERIES", "6.1").split(",")[0]
PATCHES = ROOT / "playbooks/files/demo/patches.yml"
_TIMEOUT = 900

# Whatever a fault left: off, and as after a first boot.
_CLEAN = """
umount /var/lib/kpatch.fleet 2> /dev/null
for file in /sys/kernel/kpatch/patches/*/enabled; do
    for attempt in 1 2 3 4 5; do [ ! -e $file ] || echo 0 > $file && break; sleep 1; done
done
for module in $(sed -n 's/^\\(kpatch_[a-z_]*\\) .*/\\1/p' /proc/modules) kpatch; do
    ! grep -q "^$module " /proc/modules || rmmod $module
done
rm -rf /var/lib/kpatch.fleet /etc/systemd/system/multi-user.target.wants/kpatch-fleet-boot.service
! grep '^kpatch' /proc/modules
"""


def playbook(name: str, inventory: str, values: dict[str, Any], *options: str) -> subprocess.Popen[str]:
    """Start a playbook of the collection."""
    command = ["ansible-playbook", "-i", inventory, f"kpatch.fleet.{name}", *options, "-e", json.dumps(values)]
    environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_HOST_KEY_CHECKING": "false"}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, start_new_session=True
    )


def output(process: subprocess.Popen[str]) -> str:
    """What a playbook has printed; it is printed again for whoever reads a failed test."""
    text, _nothing = process.communicate(timeout=_TIMEOUT)
    print(text)
    return text


class Machine(Host):
    """The machine, and rollouts to it."""

    def __init__(self, inventory: Path, home: Path, control: Path) -> None:
        hosts = yaml.safe_load(inventory.read_text(encoding="utf-8"))["all"]["children"]["kpatch_fleet"]["hosts"]
        super().__init__("vm", hosts["vm"], control)
        self.inventory, self.home = inventory, home

    def start(self, name: str, policy: dict[str, Any] | None = None, **values: Any) -> subprocess.Popen[str]:
        extra = {"kpatch_home": str(self.home), "kpatch_policy": {"soak": 0, **(policy or {})}, **values}
        return playbook(name, str(self.inventory), extra, "-e", f"@{PATCHES}")

    def rollout(self, policy: dict[str, Any] | None = None, **values: Any) -> tuple[int, str]:
        process = self.start("rollout", policy, **values)
        text = output(process)
        return process.returncode, text

    def states(self) -> dict[str, Any]:
        """The newest report's entry for the machine."""
        path = max(self.home.glob("rollouts/*/report.json"), key=lambda path: path.stat().st_mtime_ns)
        found: dict[str, Any] = json.loads(path.read_text())["hosts"][0]
        return found

    def modules(self) -> list[str]:
        return sorted(self.run("sed -n 's/^\\(kpatch[a-z_]*\\) .*/\\1/p' /proc/modules").split())

    def ledger(self) -> str:
        paths = self.home.glob("rollouts/*/ledger.jsonl")
        return max(paths, key=lambda path: path.stat().st_mtime_ns, default=Path(os.devnull)).read_text()

    def reset(self) -> None:
        self.run(_CLEAN)


def lab(state: str) -> None:
    values = {"lab_name": LAB, "lab_state": state, "lab_hosts": [{"name": "vm", "kernel": SERIES}]}
    process = playbook("lab", "localhost,", {**values, "kpatch_cache": str(CACHE)})
    text = output(process)
    assert process.returncode == 0, text


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    lab("absent")
    try:
        lab("present")
        home = tmp_path_factory.mktemp("home")
        machine = Machine(CACHE / "lab" / LAB / "inventory.yml", home, tmp_path_factory.mktemp("ssh"))
        process = machine.start("build", kpatch_cache=str(CACHE))
        text = output(process)
        assert process.returncode == 0, text
        yield machine
    finally:
        lab("absent")


@pytest.fixture
def machine(made: Machine, tmp_path: Path) -> Machine:
    """The machine with nothing of ours on it; one that a fault has killed is made anew."""
    try:
        made.reset()
    except (AssertionError, subprocess.TimeoutExpired):
        lab("present")
        made.__init__(made.inventory, made.home, tmp_path)  # type: ignore[misc]
        made.reset()
    return made
