# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet of simulated hosts, and the real playbooks, roles, plan, gate and ledger run against it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import example_artifact
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
SIMULATED = Path(__file__).parent / "simulated"
RELEASE, OTHER = "6.1.0-1-cloud-amd64", "6.12.1-cloud-amd64"
RECAP = re.compile(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", re.MULTILINE)


@dataclass
class Run:
    """One run of ansible-playbook: its exit status, what it printed, and per host (changed, failed)."""

    status: int
    output: str

    @property
    def changed(self) -> dict[str, int]:
        return {host: int(changed) for host, changed, _lost, _failed in RECAP.findall(self.output) if int(changed)}

    @property
    def failed(self) -> list[str]:
        return sorted(host for host, _changed, _lost, failed in RECAP.findall(self.output) if int(failed))


class Fleet:
    """Hosts h1, h2, … each as a file; a store with artifacts for RELEASE."""

    patches: tuple[str, ...] = ("one", "two")

    def __init__(self, directory: Path, collections: Path, count: int) -> None:
        self.directory, self.collections = directory, collections
        self.hosts = directory / "hosts"
        self.home = directory / "home"
        self.hosts.mkdir()
        # Without a soak, and with what went wrong left as it is: a test that is about either says so.
        self.policy: dict[str, Any] = {"soak": 0, "on_failure": "hold"}
        self.sizes: list[Any] = [1, 2, 2]
        self.time_limit: float | None = 300
        self.names = [f"h{number}" for number in range(1, count + 1)]
        for name in self.names:
            self.write(name, {"host": _host(RELEASE)})
        for name in ("kpatch", *self.patches):
            store(self.home / "store", RELEASE, name)
        inventory = {"all": {"hosts": dict.fromkeys(self.names), "vars": {"simulated_hosts": str(self.hosts)}}}
        (directory / "inventory.yml").write_text(yaml.safe_dump(inventory))

    def read(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.hosts / f"{name}.json").read_text())
        return found

    def write(self, name: str, file: dict[str, Any]) -> None:
        (self.hosts / f"{name}.json").write_text(json.dumps(file))

    def update(self, name: str, **values: Any) -> None:
        self.write(name, {**self.read(name), **values})

    @property
    def touched(self) -> list[str]:
        """The hosts that something was tried on, each once, in order."""
        log = self.hosts / "touched.log"
        lines = log.read_text().splitlines() if log.exists() else []
        return list(dict.fromkeys(line.split()[0] for line in lines))

    def forget(self) -> None:
        (self.hosts / "touched.log").unlink(missing_ok=True)

    def patched(self) -> list[str]:
        return [name for name in self.names if len(self.read(name)["host"]["patches"]) == len(self.patches)]

    def bare(self) -> list[str]:
        hosts = {name: self.read(name)["host"] for name in self.names}
        return [name for name, host in hosts.items() if not host["patches"] and not host["core"]]

    def rollout(self) -> Path:
        """The directory of the newest rollout."""
        return max((self.home / "rollouts").iterdir(), key=lambda path: path.stat().st_mtime_ns)

    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.rollout() / "report.json").read_text())
        return found

    def ledger(self, event: str) -> list[dict[str, Any]]:
        lines = (self.rollout() / "ledger.jsonl").read_text().splitlines()
        return [entry for entry in map(json.loads, lines) if entry["event"] == event]

    def states(self) -> dict[str, str]:
        return {host["host"]: host["state"] for host in self.report()["hosts"]}

    def start(self, playbook: str, *options: str) -> subprocess.Popen[str]:
        extra = {
            "kpatch_home": str(self.home),
            "kpatch_patches": [{"name": name} for name in self.patches],
            "kpatch_batches": self.sizes,
            "kpatch_policy": self.policy,
            # Nothing is compiled here.
            "builder_packages": [],
        }
        command = ["ansible-playbook", "-i", str(self.directory / "inventory.yml"), f"kpatch.fleet.{playbook}"]
        return subprocess.Popen(
            [*command, "-e", json.dumps(extra), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.directory,
            start_new_session=True,
            env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(self.collections), "ANSIBLE_NOCOLOR": "1"},
        )

    def run(self, playbook: str, *options: str) -> Run:
        process = self.start(playbook, *options)
        output, _nothing = process.communicate(timeout=self.time_limit)
        print(output)
        return Run(process.returncode, output)

    def run_and_kill(self, playbook: str, text: str) -> None:
        """Start a playbook, and kill the controller and its workers once the ledger holds *text*."""
        process = self.start(playbook)
        self.wait_for(text)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()

    def wait_for(self, text: str) -> None:
        """Until a ledger holds *text*."""
        deadline = time.monotonic() + 120
        while not self._ledger_has(text):
            assert time.monotonic() < deadline, f"no ledger holds {text!r}: {self._ledgers()}"
            time.sleep(0.05)

    def _ledger_has(self, text: str) -> bool:
        return any(text in ledger for ledger in self._ledgers())

    def _ledgers(self) -> list[str]:
        return [path.read_text() for path in self.home.glob("rollouts/*/ledger.jsonl")]


def store(directory: Path, release: str, name: str, build_id: str = "aa", **changes: Any) -> Path:
    """An artifact, with *changes* to its manifest; returns its .ko. It takes the place of what was there."""
    image = f"{release} {name}".encode()
    kernel = example_artifact.kernel(release, build_id)
    return example_artifact.put(directory, example_artifact.manifest(name, image, kernel, **changes), image)


def _host(release: str) -> dict[str, Any]:
    kernel = {
        "release": release,
        "version": "#1",
        "machine": "x86_64",
        "build_id": "aa",
        "boot_id": "first",
        "taint": {"value": 0, "flags": ""},
        "lockdown": "none",
        "signatures_enforced": False,
    }
    return {"kernel": kernel, "core": None, "patches": [], "livepatches": [], "staged": [], "manifests": []}


@pytest.fixture(scope="session")
def collections(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The collection, as `tree` makes it."""
    return tree(tmp_path_factory.mktemp("collections"))


def tree(top: Path) -> Path:
    """The collection below *top*, with the plugins that reach a host replaced by simulated ones.

    It is the checkout's, or the one that KPATCH_COLLECTION names.
    """
    source = Path(os.environ.get("KPATCH_COLLECTION", ROOT))
    tree = top / "ansible_collections/kpatch/fleet"
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("meta", "plugins", "roles", "playbooks"):
        shutil.copytree(source / name, tree / name, symlinks=True, ignore=ignore)
    shutil.copytree(SIMULATED, tree / "plugins", dirs_exist_ok=True, ignore=ignore)
    return top


@pytest.fixture
def fleet(tmp_path: Path, collections: Path) -> Fleet:
    """Five hosts, in batches of 1, 2 and 2."""
    return Fleet(tmp_path, collections, 5)
