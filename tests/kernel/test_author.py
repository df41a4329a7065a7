# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an author can say in a diff, for the core module and for the kernel's own livepatch: the guide's examples.

If these fail, a hook does not run or its refusal is not heeded, a shadow variable outlives its object, a patch that
should take the place of others does not, or the guide shows what does not work.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import BuildError
from builder import Builder
from host import Host

ROOT = Path(__file__).parents[2]
LIVEPATCH = "/sys/kernel/livepatch"
NR_OPEN = "/proc/sys/fs/nr_open"
VLAN = "net/8021q/vlan.c"


@dataclass(frozen=True)
class Patch:
    """A patch that was built and brought to the host."""

    artifact: Path
    module: str  # its file
    loaded_as: str  # what the kernel calls it

    def report(self) -> str:
        """Its safety report, for people."""
        return (self.artifact / "report.txt").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Backend:
    """One backend on a host: build for it, switch a patch on and off."""

    name: str
    host: Host
    builder: Builder

    def build(self, patch: str, diff: str, replace: bool = False) -> Patch:
        """Build a patch and bring it to the host."""
        switch = "thread" if self.name == "livepatch" else "kernel"
        result = self.builder.patch(patch, diff, switch, self.name, replace=replace)
        assert result.path is not None
        assert result.manifest is not None
        self.host.send(result.path.glob("*.ko"))
        return Patch(result.path, result.manifest["module"], result.manifest["loaded_as"])

    def on(self, patch: Patch) -> None:
        """Load it, and wait until everybody has switched."""
        self.host.load(patch.module)
        if self.name == "livepatch":
            file = f"{LIVEPATCH}/{patch.loaded_as}/transition"
            self.host.run(f"for i in $(seq 200); do grep -q 0 {file} && exit; sleep 0.2; done; exit 1")

    def off(self, patch: Patch) -> None:
        """Disable and unload it."""
        if self.name == "livepatch":
            self.host.run(f"echo 0 > {LIVEPATCH}/{patch.loaded_as}/enabled")
        else:
            assert self.host.set(patch.loaded_as, 0)
        self.gone(patch)

    def gone(self, patch: Patch) -> None:
        """Unload a patch that is disabled, or about to be."""
        if self.name == "livepatch":
            file = f"{LIVEPATCH}/{patch.loaded_as}"
            self.host.run(f"for i in $(seq 200); do [ -e {file} ] || exit 0; sleep 0.2; done; exit 1")
        self.host.unload(patch.loaded_as)

    def refused(self, patch: Patch, object_name: str) -> None:
        """Load what its pre_patch hook refuses with EBUSY."""
        if self.name == "kpatch":
            said = f"the pre_patch hook of {patch.loaded_as} for {object_name} says -16"
            assert self.host.refused(patch.module) == said
            return
        done = self.host.script(f"insmod /run/kpt/{patch.module}.ko")
        assert "resource busy" in done.stderr
        assert patch.module not in self.host.run(f"cat /proc/modules; ls {LIVEPATCH}")


@pytest.fixture(params=["kpatch", "livepatch"])
def backend(request: pytest.FixtureRequest, host: Host, core: Builder) -> Backend:
    return Backend(request.param, host, core)


def example(name: str) -> str:
    return (ROOT / "docs/examples" / f"{name}.patch").read_text(encoding="utf-8")


@pytest.fixture
def examples_kernel(builder: Builder) -> None:
    """The examples are changes of these kernels' source."""
    release = builder.kernel.release
    if not release.startswith(("6.1.", "6.12.")):
        pytest.skip(f"the guide's examples are diffs against 6.1 and 6.12, this is {release}")


@pytest.fixture
def nr_open(host: Host) -> Iterator[None]:
    """The limit as the kernel has it; systemd sets another at boot, which comes back."""
    before = host.read(NR_OPEN)
    host.run(f"echo 1048576 > {NR_OPEN}")
    yield
    host.run(f"echo {before} > {NR_OPEN}")


@pytest.mark.usefixtures("examples_kernel", "nr_open")
def test_hooks_change_data_and_a_refusal_is_heeded(backend: Backend, host: Host) -> None:
    patch = backend.build("nr-open", example("nr-open"))
    host.run(f"echo 1000000 > {NR_OPEN}")
    backend.refused(patch, "vmlinux")
    assert host.read(NR_OPEN) == "1000000"
    host.run(f"echo 1048576 > {NR_OPEN}")
    backend.on(patch)
    assert host.read(NR_OPEN) == "524288"
    backend.off(patch)
    assert host.read(NR_OPEN) == "1048576"
    report = json.loads((patch.artifact / "report.json").read_text(encoding="utf-8"))
    assert {hook["reason"]: hook["name"] for hook in report["hooks"]} == {
        "pre_patch hook": "nr_open_is_default",
        "post_patch hook": "lower_nr_open",
        "pre_unpatch hook": "raise_nr_open",
    }
    assert report["replaced"] == []
    assert [risk["where"] for risk in report["risks"]] == ["sysctl_nr_open"]


# Counts how often a pipe can be resized: a new one each time, and one that stays, whenever it is asked.
_RESIZE = """
import fcntl, os, sys
def resizes(pipe):
    for count in range(20):
        try:
            fcntl.fcntl(pipe, 1031, 65536 << count % 2)
        except PermissionError:
            return count
    return 20
def fresh():
    pipe = os.pipe()
    count = resizes(pipe[1])
    for end in pipe:
        os.close(end)
    return count
"""
_FRESH = f"python3 - << 'end'\n{_RESIZE}print(*(fresh() for _ in range(20)))\nend\n"
_STAYS = f"""
cat > /run/kpt/stays << 'end'
{_RESIZE}
pipe = os.pipe()
while open("/run/kpt/ask").read() != "end":
    with open("/run/kpt/told", "w") as told:
        told.write(str(resizes(pipe[1])))
end
rm -f /run/kpt/ask; mkfifo /run/kpt/ask /run/kpt/told 2> /dev/null
python3 /run/kpt/stays > /dev/null 2>&1 < /dev/null &
"""
_ASK = "echo > /run/kpt/ask; cat /run/kpt/told"


@pytest.mark.usefixtures("examples_kernel")
def test_a_shadow_variable_lives_as_long_as_its_object(backend: Backend, host: Host) -> None:
    patch = backend.build("pipe-resizes", example("pipe-resizes"))
    host.run(_STAYS)
    assert set(host.run(_FRESH).split()) == {"20"}
    backend.on(patch)
    # Were they not freed, a pipe would find that of one before it, in whose memory it is.
    assert set(host.run(_FRESH).split()) == {"8"}
    assert host.run(_ASK) == "8"
    assert host.run(_ASK) == "0"
    backend.off(patch)
    assert host.run(_ASK) == "20"
    backend.on(patch)
    assert host.run(_ASK) == "8"
    backend.off(patch)
    host.run("printf end > /run/kpt/ask")


@pytest.mark.usefixtures("examples_kernel")
def test_a_function_that_is_ignored_stays(backend: Backend, host: Host) -> None:
    patch = backend.build("last-pid", example("last-pid"))
    manifest = json.loads((patch.artifact / "manifest.json").read_text(encoding="utf-8"))
    assert [function["name"] for function in manifest["functions"]] == ["loadavg_proc_show"]
    assert "proc_loadavg_init: its code changed, but the patch says to ignore that" in patch.report()
    assert host.read("/proc/loadavg").split()[-1] != "0"
    backend.on(patch)
    assert host.read("/proc/loadavg").split()[-1] == "0"
    backend.off(patch)


@pytest.mark.usefixtures("examples_kernel")
def test_one_patch_takes_the_place_of_another(backend: Backend, host: Host) -> None:
    demo = (ROOT / "playbooks/files/demo/demo-meminfo.patch").read_text(encoding="utf-8")
    one = backend.build("one", demo)
    another = backend.build("last-pid", example("last-pid"), replace=True)
    backend.on(one)
    assert "KpatchDemo" in host.read("/proc/meminfo")
    backend.on(another)
    assert "KpatchDemo" not in host.read("/proc/meminfo")
    assert host.read("/proc/loadavg").split()[-1] == "0"
    backend.gone(one)
    backend.off(another)


HOOKS = """
#include <linux/kernel.h>
#include <kpatch_author.h>

static int kpt_may_patch(void)
{
\treturn panic_timeout == 77 ? -EBUSY : 0;
}

static void kpt_patched(void)
{
\tpr_info("kpt: %s is patched\\n", vlan_fullname);
}

static void kpt_restored(void)
{
\tpr_info("kpt: %s is restored\\n", vlan_fullname);
}

KPATCH_PRE_PATCH(kpt_may_patch);
KPATCH_POST_PATCH(kpt_patched);
KPATCH_POST_UNPATCH(kpt_restored);
"""


def test_hooks_of_a_module_that_comes_later(backend: Backend, host: Host) -> None:
    place = 'const char vlan_fullname[] = "802.1Q VLAN Support";\n'
    patch = backend.build("hooks", backend.builder.diff(VLAN, place, place + HOOKS))
    host.run("rmmod 8021q 2> /dev/null; dmesg --clear; :")
    backend.on(patch)
    assert "kpt:" not in host.run("dmesg")
    host.run("echo 77 > /proc/sys/kernel/panic")
    assert host.script("modprobe 8021q").returncode != 0
    host.run("echo 0 > /proc/sys/kernel/panic; dmesg --clear")
    report = patch.report()
    assert ("its pre_patch hook refused it" in report) == (backend.name == "livepatch")
    if backend.name == "livepatch":
        assert "Exec format error" in host.script("modprobe 8021q").stderr
        backend.off(patch)
        backend.on(patch)
    host.run("modprobe 8021q")
    assert "kpt: 802.1Q VLAN Support is patched" in host.run("dmesg")
    # Whether a module that went can come again is the kernel's matter, and the report has foretold it.
    again = host.script("rmmod 8021q; modprobe 8021q").returncode == 0
    assert again == ("once it was unloaded" not in report)
    backend.off(patch)
    assert "kpt: 802.1Q VLAN Support is restored" in host.run("dmesg")
    host.run("rmmod 8021q 2> /dev/null; :")


@pytest.mark.usefixtures("examples_kernel")
def test_a_forced_function_does_not_mind_who_sleeps_in_it(host: Host, core: Builder) -> None:
    patch = Backend("kpatch", host, core).build("long-sleeps", example("long-sleeps"))
    pid = host.run("sleep 10000 > /dev/null 2>&1 < /dev/null & sleep 1; echo $!").strip()
    assert "hrtimer_nanosleep" in host.read(f"/proc/{pid}/stack")
    host.load(patch.module)
    assert host.read(f"patches/{patch.loaded_as}/forced") == "1"
    assert "Invalid argument" in host.script("sleep 99999999").stderr
    assert host.set(patch.loaded_as, 0)
    assert host.script(f"rmmod {patch.loaded_as}").returncode != 0
    # Once nobody can be in it: this machine is needed for other tests.
    host.run(f"kill {pid}; sleep 1; rmmod -f {patch.loaded_as}")


@pytest.mark.usefixtures("examples_kernel")
def test_livepatch_can_not_force_a_function(core: Builder) -> None:
    with pytest.raises(BuildError, match="backend livepatch: the patch forces hrtimer_nanosleep, and livepatch can't"):
        core.patch("long-sleeps", example("long-sleeps"), "thread", "livepatch")
