# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One machine of the lab: rollouts to it, what it says of itself, and its power switch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from ansible_collections.kpatch.fleet.plugins.module_utils.lab import golden, machine, process, vm
from ansible_collections.kpatch.fleet.plugins.module_utils.lab.image import READY_MARK, open_image
from ansible_collections.kpatch.fleet.plugins.module_utils.manifest import module_of

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/kernel"))
from host import Host  # noqa: E402

CACHE = Path(os.environ.get("KPATCH_CACHE") or Path.home() / ".cache/kpatch.fleet")
NAME = "vm"
DEMO = ("demo-meminfo", "demo-vlan")
# What is loaded once these are on.
ALL = ["kpatch", "kpatch_demo_meminfo", "kpatch_demo_vlan"]
# A script that goes on once the first patch is being loaded.
# The shell's own read costs nothing: a grep for each look would miss the moment.
WHILE_LOADED = """
while :; do
    state=
    for file in /sys/module/kpatch_demo_meminfo_x*/initstate; do read -r state 2> /dev/null < $file; done
    [ "$state" != coming ] || break
done
"""
_TIMEOUT = 900
_BOOT_SECONDS = 400
_ANSWER_SECONDS = 60

# Whatever a fault left on a machine that lives: off, and as after a first boot.
_CLEAN = """
pkill -f /run/fault.sh
rm -f /run/fault.*
umount /var/lib/kpatch.fleet 2> /dev/null
for file in /sys/kernel/kpatch/patches/*/enabled; do
    for attempt in 1 2 3 4 5; do [ ! -e $file ] || echo 0 > $file && break; sleep 1; done
done
for module in $(sed -n 's/^\\(kpatch_[a-z0-9_]*\\) .*/\\1/p' /proc/modules) kpatch; do
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
    """The machine *name* of the lab in *directory*; rollouts to it have their home in *home*, artifacts in *store*."""

    def __init__(self, directory: Path, home: Path, store: Path, control: Path) -> None:
        self.lab, self.directory = directory, directory / NAME
        self.home, self.store, self.control = home, store, control
        self.inventory = home / "inventory.yml"
        backing = subprocess.run(
            ["qemu-img", "info", "-U", "--output=json", str(self.directory / machine.DISK)],
            capture_output=True,
            text=True,
            check=True,
        )
        self.golden = golden.open_golden(Path(json.loads(backing.stdout)["full-backing-filename"]).parent)
        self._reach(json.loads((self.directory / "vm.json").read_text())["port"])

    # What is done to it

    def start(
        self, name: str, policy: dict[str, Any] | None = None, check: bool = False, **values: Any
    ) -> subprocess.Popen[str]:
        """Start a playbook, in check mode if asked; *values* are variables, kpatch_patches may be names."""
        patches = [PATCHES[name] for name in values.pop("patches", DEMO)]
        extra = {
            "kpatch_home": str(self.home),
            "kpatch_store": str(self.store),
            "kpatch_patches": patches,
            "kpatch_policy": {"soak": 0, **(policy or {})},
        }
        return playbook(name, str(self.inventory), {**extra, **values}, *(["--check"] if check else []))

    def play(
        self, name: str, policy: dict[str, Any] | None = None, check: bool = False, **values: Any
    ) -> tuple[int, str]:
        """Run a playbook to its end: its exit status and what it printed."""
        running = self.start(name, policy, check, **values)
        text = output(running)
        return running.returncode, text

    def rollout(self, policy: dict[str, Any] | None = None, check: bool = False, **values: Any) -> tuple[int, str]:
        return self.play("rollout", policy, check, **values)

    def later(self, script: str) -> None:
        """Leave a shell script running there, which no connection's end ends."""
        self.run(
            f"cat > /run/fault.sh <<'EOF'\n{script}\nEOF\nsetsid sh /run/fault.sh > /run/fault.log 2>&1 < /dev/null &"
        )

    def reset(self) -> None:
        """Take off what is on. It fails if the machine does not answer or does not let go."""
        self.run(_CLEAN, timeout=_ANSWER_SECONDS)

    def wake(self) -> None:
        """Make it anew, as it was saved."""
        vm.remove(self.lab, NAME)
        port, _why = vm.ensure(self.lab, vm.Spec(NAME, self.golden.path, []))
        assert port is not None
        self._reach(port)

    def power_cycle(self, append: str = "", series: str = "") -> None:
        """Switch it off and on again with its disk; with another command line or kernel, if one is given."""
        # One whose kernel has panicked has nothing to write any more.
        with suppress(subprocess.TimeoutExpired):
            self.script("sync", timeout=_ANSWER_SECONDS)
        process.terminate(self.directory / machine.PID)
        image = open_image(self.golden.image)
        boot = image.boot(series or self.golden.series, append)
        before = self.console_size()
        machine.launch(machine.command(self.golden.machine, boot, NAME, self.directory, self.port), self.directory)
        self.wait_for_boot(before)

    def wait_for_boot(self, since: int) -> None:
        """Until it says on its console, beyond *since*, that ssh answers. A panic on the way is not the end."""
        mark = READY_MARK
        deadline = time.monotonic() + _BOOT_SECONDS
        while mark not in self.console(since):
            assert time.monotonic() < deadline, f"it did not come up: {self.console(since)[-2000:]}"
            time.sleep(0.5)
        self._reach(self.port)

    # What it says

    def console_size(self) -> int:
        return (self.directory / machine.SERIAL).stat().st_size

    def console(self, since: int = 0) -> str:
        """What its kernel printed."""
        return (self.directory / machine.SERIAL).read_bytes()[since:].decode("utf-8", "replace")

    def report(self) -> dict[str, Any]:
        """The newest report's entry for the machine."""
        path = max(self.home.glob("rollouts/*/report.json"), key=lambda path: path.stat().st_mtime_ns)
        found: dict[str, Any] = json.loads(path.read_text())["hosts"][0]
        return found

    def state(self) -> str:
        return str(self.report()["state"])

    def modules(self) -> list[str]:
        """The modules of ours that are loaded, whichever builds of them."""
        loaded = self.run("sed -n 's/^\\(kpatch[a-z0-9_]*\\) .*/\\1/p' /proc/modules").split()
        return sorted(module_of(one) for one in loaded)

    def builds(self) -> str:
        """What of ours is loaded, down to its bytes, and what of it is enabled."""
        return self.run(
            "cd /sys/module && cat kpatch_*/srcversion && ls -d kpatch* && cat /sys/kernel/kpatch/patches/*/enabled"
        )

    def ledger(self) -> str:
        paths = self.home.glob("rollouts/*/ledger.jsonl")
        return max(paths, key=lambda path: path.stat().st_mtime_ns, default=Path(os.devnull)).read_text()

    def boot_id(self) -> str:
        return self.read("/proc/sys/kernel/random/boot_id")

    def told(self) -> str:
        """What is known of it, for whoever reads a failed test."""
        try:
            seen = self.run(
                "uname -r; cat /proc/sys/kernel/tainted; grep ^kpatch /proc/modules; cat /run/kpatch.fleet.order.json; "
                "find /var/lib/kpatch.fleet; dmesg | tail -n 30; cat /run/fault.log; :",
                timeout=_ANSWER_SECONDS,
            )
        except (AssertionError, subprocess.TimeoutExpired) as error:
            seen = f"it does not answer: {error}\n{self.console()[-3000:]}"
        return f"the machine:\n{seen}\nthe ledger:\n{self.ledger()}"

    def _reach(self, port: int) -> None:
        """Connections and the inventory go to this port from now on; old connections are not used again."""
        self.port = port
        variables = vm.connection(port, self.golden.path)
        fleet = {"all": {"children": {"kpatch_fleet": {"hosts": {NAME: variables}}}}}
        self.inventory.write_text(json.dumps(fleet))
        self.control.mkdir(exist_ok=True)
        fresh = self.control / str(time.monotonic_ns() // 1_000_000 % 10_000_000)
        fresh.mkdir()
        super().__init__(NAME, variables, fresh)


def _patch(name: str, source: Path, switch: str = "kernel", backend: str = "kpatch") -> dict[str, Any]:
    return {"name": name, "source": str(source), "leave": "patched_set", "switch": switch, "backend": backend}


_DEMO = ROOT / "playbooks/files/demo"
_OWN = Path(__file__).parent / "patches"
PATCHES = {
    one["name"]: one
    for one in (
        _patch("demo-meminfo", _DEMO / "demo-meminfo.patch"),
        _patch("demo-vlan", _DEMO / "demo-vlan.patch"),
        _patch("oops", _OWN / "oops.patch"),
        # The same change once by the switch that waits for tasks, once by the one that stops the machine.
        _patch("fork-thread", _OWN / "fork.patch", "thread"),
        _patch("fork-kernel", _OWN / "fork.patch", "kernel"),
        # Somebody else's, once it has another name: see test_others.py.
        _patch("theirs", _DEMO / "demo-meminfo.patch", "thread", "livepatch"),
    )
}
