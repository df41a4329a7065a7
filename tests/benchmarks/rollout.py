# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rollout costs the controller, and how that grows with the fleet, beside a ping of the same hosts.

The hosts are directories (tests/unit/host/fake_host.py) behind connection/simulated.py; playbooks, roles, plugins and
payloads are the product's own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import example_artifact
import yaml
from connection.simulated import patchset
from fake_host import RELEASE, FakeHost, elf

Row = dict[str, Any]
PATCHES = ("one", "two")
# About as large as what is built for Debian's kernels.
_SIZES = {"kpatch": 90_000, "one": 20_000, "two": 9_000}
# What it is compared with: a ping by ansible, and one by a play of nothing else, which costs Ansible less.
PING, PLAY = "ansible -m ping", "a play of ping"
APPLYING = "applying"
RUNS = (PING, PLAY, APPLYING, "no change")
_PLAY = [{"hosts": "all", "gather_facts": False, "tasks": [{"ansible.builtin.ping": None}]}]


class Fleet:
    """*count* hosts below *directory*, and a store with what they are to have."""

    def __init__(self, directory: Path, count: int) -> None:
        self.directory, self.count = directory, count
        self.roots, self.home = directory / "roots", directory / "home"
        names = [f"h{number}" for number in range(1, count + 1)]
        for name in names:
            (self.roots / name).mkdir(parents=True)
            FakeHost(self.roots / name)
        self._fill_store()
        variables = {
            "ansible_connection": "simulated",
            "ansible_pipelining": True,
            "ansible_python_interpreter": "/usr/bin/python3",
            "ansible_remote_tmp": str(directory / "tmp"),
            "simulated_roots": str(self.roots),
        }
        inventory = {"all": {"hosts": dict.fromkeys(names), "vars": variables}}
        (directory / "inventory.yml").write_text(yaml.safe_dump(inventory))
        (directory / "ping.yml").write_text(yaml.safe_dump(_PLAY))

    def _fill_store(self) -> None:
        builder = FakeHost(self.directory / "builder")
        for name in ("kpatch", *PATCHES):
            image = elf(extra=name.encode() + bytes(_SIZES[name]))
            manifest, _src = builder.artifact(name, build=name, image=image)
            example_artifact.put(self.home / "store", manifest, image)

    def apply(self) -> None:
        """Put all of it on every host, without Ansible."""
        artifacts = []
        for name in ("kpatch", *PATCHES):
            place = (self.home / "store" / RELEASE / name / "current").resolve()
            manifest = json.loads((place / "manifest.json").read_text())
            artifacts.append({"manifest": manifest, "src": str(place / manifest["file"])})
        wanted = {"names": list(PATCHES), "state": "enabled", "core": True, "timeout": 30.0, "artifacts": artifacts}
        for root in self.roots.iterdir():
            done = patchset(root, wanted)
            assert not done.get("failed"), done["msg"]

    def command(self, run: str) -> list[str]:
        """A ping, or a rollout, with nothing on the hosts or with all of it."""
        inventory = ["-i", str(self.directory / "inventory.yml")]
        if run == PING:
            return ["ansible", "all", *inventory, "-m", "ansible.builtin.ping"]
        if run == PLAY:
            return ["ansible-playbook", *inventory, "ping.yml"]
        extra = {
            "kpatch_home": str(self.home),
            "kpatch_patches": [{"name": name} for name in PATCHES],
            "kpatch_batches": [1, "25%", "50%"],
            # Looks during a soak are as many as the operator wants, each a round trip more.
            "kpatch_policy": {"soak": 0},
        }
        return ["ansible-playbook", *inventory, "kpatch.fleet.rollout", "-e", json.dumps(extra)]

    def measure(self, run: str) -> Row:
        """Seconds, the controller's processor seconds and its memory, and per host what went over its connection."""
        trips = self.roots / "trips.log"
        trips.unlink(missing_ok=True)
        begin = time.monotonic()
        with (self.directory / "output.txt").open("w") as output:
            process = subprocess.Popen(self.command(run), stdout=output, stderr=subprocess.STDOUT, cwd=self.directory)
            _pid, status, usage = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"{run} with {self.count} hosts failed:\n{(self.directory / 'output.txt').read_text()}")
        return {
            "hosts": self.count,
            "run": run,
            "seconds": round(time.monotonic() - begin, 1),
            "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
            "max_rss_mb": round(usage.ru_maxrss / 1024, 1),
            **_traffic(trips.read_text().splitlines()),
        }


def _traffic(lines: list[str]) -> Row:
    """The most that any host had: modules run, other operations of its connection, and bytes; and each module's."""
    hosts: dict[str, Counter[str]] = defaultdict(Counter)
    payloads: dict[str, int] = {}
    for line in lines:
        name, what, size = line.split()
        files = what in ("shell", "put")
        hosts[name].update({"files" if files else "trips": 1, "bytes": int(size)})
        if not files:
            payloads[what] = max(payloads.get(what, 0), int(size))
    most = {key: max(host[key] for host in hosts.values()) for key in ("trips", "files", "bytes")}
    return {**most, "payloads": payloads}


def measure(counts: list[int], applied: bool) -> list[Row]:
    """All kinds of runs with each of these fleets; but those that change hosts if they have all of it *applied*."""
    rows = []
    for count in counts:
        with tempfile.TemporaryDirectory() as scratch:
            fleet = Fleet(Path(scratch), count)
            if applied:
                fleet.apply()
            for run in (run for run in RUNS if not applied or run != APPLYING):
                rows.append(fleet.measure(run))
                print(rows[-1], file=sys.stderr, flush=True)
    return rows


def main() -> None:
    """Measure, and write the figures down. What makes plots of them is large, and what it starts is so for a moment."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("hosts", help="numbers of hosts, with commas between them")
    parser.add_argument("target", type=Path, help="the file for the figures")
    parser.add_argument("--applied", action="store_true", help="the hosts have all of it from the beginning")
    arguments = parser.parse_args()
    rows = measure([int(number) for number in arguments.hosts.split(",")], arguments.applied)
    arguments.target.parent.mkdir(parents=True, exist_ok=True)
    arguments.target.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
