# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A newer build of a patch takes the place of the older one, by the very code that works on hosts.

If these fail, a host is without its fixes while they are being upgraded, or is left with half of two sets.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils.build.artifact import Result
from ansible_collections.kpatch.fleet.plugins.module_utils.host.program import program
from builder import Builder
from host import CORE, Host

DEMO = Path(__file__).parents[2] / "playbooks/files/demo"
NAMES = ["demo-meminfo", "demo-vlan"]
OLD, NEW = "KpatchDemo", "KpatchNext"
WHERE = "/run/kpt/upgrade"

# Reads over and over what the fix adds; on its end it tells how often it read each build's line, and how often neither.
POLLER = f"""
import json, os, sys
seen = {{"{OLD}": 0, "{NEW}": 0, "neither": 0}}
while not os.path.exists("{WHERE}/stop"):
    text = open("/proc/meminfo").read()
    seen[next((word for word in ("{OLD}", "{NEW}") if word in text), "neither")] += 1
    open("{WHERE}/polling", "a").close()
json.dump(seen, open("{WHERE}/seen", "w"))
"""
RUN = f"""
import json, sys
sys.path.insert(0, "{WHERE}/program")
from ansible_collections.kpatch.fleet.plugins.module_utils.host import entry
json.dump(entry.run("patchset", json.load(open("{WHERE}/order.json")), False), sys.stdout)
"""


class Fleet:
    """One host, and the builds of a set of two patches for it."""

    def __init__(self, host: Host, builder: Builder, scratch: Path) -> None:
        self.host = host
        self.builder = builder
        self.scratch = scratch
        host.run(f"rm -rf {WHERE} /var/lib/kpatch.fleet; mkdir -p {WHERE}")
        self.write("program", program("entry"))
        self.write("poll.py", POLLER.encode())
        self.write("run.py", RUN.encode())

    def write(self, name: str, content: bytes) -> str:
        path = self.scratch / name
        path.write_bytes(content)
        self.host.send([path])
        self.host.run(f"mv /run/kpt/{name} {WHERE}/")
        return f"{WHERE}/{name}"

    def build(self, word: str, switch: str = "kernel", backend: str = "kpatch") -> list[Result]:
        """The core module and both patches, which say *word*."""
        diffs = [(DEMO / f"{name}.patch").read_text(encoding="utf-8").replace(OLD, word) for name in NAMES]
        patches = [self.builder.patch(name, diff, switch, backend) for name, diff in zip(NAMES, diffs)]
        return [self.builder.core(), *patches]

    def bring(self, builds: list[Result], spoilt: str = "") -> dict[str, Any]:
        """Have the host brought to *builds*; the bytes of the patch *spoilt* are such as the kernel refuses."""
        artifacts = []
        for number, result in enumerate(builds):
            assert result.manifest is not None
            assert result.path is not None
            manifest = dict(result.manifest)
            image = (result.path / manifest["file"]).read_bytes()
            if manifest["name"] == spoilt:
                # A symbol that no module exports: the loader refuses before it runs anything of the module.
                assert b"\0kpatch_register\0" in image
                image = image.replace(b"kpatch_register\0", b"kpatch_nowhere_\0")
                manifest.update(sha256=hashlib.sha256(image).hexdigest())
            artifacts.append({"manifest": manifest, "src": self.write(f"{number}.ko", image), "signature": None})
        order = {"names": NAMES, "state": "enabled", "core": True, "artifacts": artifacts, "timeout": 60.0}
        self.write("order.json", json.dumps(order).encode())
        # 6.12's own live patching takes a minute and more for each switch where two processors are busy.
        return dict(json.loads(self.host.run(f"python3 {WHERE}/run.py", timeout=1200)))

    def poll(self) -> None:
        self.host.run(
            f"rm -f {WHERE}/stop {WHERE}/seen {WHERE}/polling\n"
            f"python3 {WHERE}/poll.py > /dev/null 2>&1 < /dev/null &\n"
            f"for i in $(seq 100); do [ -e {WHERE}/polling ] && exit; sleep 0.1; done; exit 1"
        )

    def seen(self) -> dict[str, int]:
        self.host.run(
            f"sleep 1; touch {WHERE}/stop; for i in $(seq 100); do [ -s {WHERE}/seen ] && exit; sleep 0.1; done"
        )
        return dict(json.loads(self.host.read(f"{WHERE}/seen")))

    def files(self) -> str:
        """What is staged. What was here before is remembered besides."""
        return self.host.run("cd /var/lib/kpatch.fleet && find . -type f ! -name newest.json | sort | xargs sha256sum")

    def loaded(self) -> list[str]:
        return self.host.run("sed -n 's/^\\(kpatch_[a-z0-9_]*\\) .*/\\1/p' /proc/modules | sort").split()


@pytest.fixture
def fleet(booted: Host, builder: Builder, tmp_path: Path) -> Any:
    booted.run("rmmod 8021q kpatch 2> /dev/null; mkdir -p /run/kpt; :")
    assert builder.core().path
    yield Fleet(booted, builder, tmp_path)
    booted.run(
        f"for patch in {CORE}/patches/* /sys/kernel/livepatch/kpatch_*; do\n"
        "    [ ! -e $patch ] || echo 0 > $patch/enabled\ndone\n"
        "for i in $(seq 100); do ls -d /sys/kernel/livepatch/kpatch_* > /dev/null 2>&1 || break; sleep 0.2; done\n"
        "for module in $(sed -n 's/^\\(kpatch_[a-z0-9_]*\\) .*/\\1/p' /proc/modules) kpatch; do rmmod $module; done\n"
        f"rm -rf {WHERE} /var/lib/kpatch.fleet /run/kpatch.fleet.lock; :"
    )


def names(builds: list[Result]) -> list[str]:
    return sorted(result.manifest["loaded_as"] for result in builds[1:] if result.manifest)


def test_the_fix_is_on_at_every_moment_of_an_upgrade(fleet: Fleet) -> None:
    old, new = fleet.build(OLD), fleet.build(NEW)
    assert not fleet.bring(old).get("failed")
    assert fleet.loaded() == names(old)
    fleet.poll()
    done = fleet.bring(new)
    seen = fleet.seen()
    assert not done.get("failed"), done["msg"]
    assert seen["neither"] == 0
    assert min(seen[OLD], seen[NEW]) > 0
    # Of each patch just the newer build is there, and it is what the core module switched to.
    assert fleet.loaded() == names(new)
    for was, name in zip(names(old), names(new)):
        assert fleet.host.read(f"patches/{name}/enabled") == "1"
        assert fleet.host.read(f"patches/{name}/replaces") == was
    # The same reader notices a swap.
    fleet.poll()
    fleet.host.run(f"echo 0 > {CORE}/patches/{names(new)[0]}/enabled; echo 1 > {CORE}/patches/{names(new)[0]}/enabled")
    assert fleet.seen()["neither"] > 0


def test_an_upgrade_that_fails_midway_leaves_the_former_set_on_throughout(fleet: Fleet) -> None:
    old, new = fleet.build(OLD), fleet.build(NEW)
    assert not fleet.bring(old).get("failed")
    files = fleet.files()
    fleet.poll()
    done = fleet.bring(new, spoilt="demo-vlan")
    seen = fleet.seen()
    assert done["failed"]
    assert "The set that ran before is on again." in done["msg"]
    # The first patch had been replaced, and the older build has taken its place again.
    assert (seen["neither"], seen[NEW] > 0) == (0, True)
    assert fleet.loaded() == names(old)
    assert OLD in fleet.host.read("/proc/meminfo")
    assert fleet.files() == files


def test_livepatch_has_the_fix_on_throughout_as_well(fleet: Fleet) -> None:
    old, new = fleet.build(OLD, "thread", "livepatch"), fleet.build(NEW, "thread", "livepatch")
    assert not fleet.bring(old).get("failed")
    fleet.poll()
    done = fleet.bring(new)
    seen = fleet.seen()
    assert not done.get("failed"), done["msg"]
    assert (seen["neither"], seen[NEW] > 0) == (0, True)
    assert fleet.loaded() == names(new)
