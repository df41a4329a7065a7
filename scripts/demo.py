# Copyright: kpatch.fleet contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the demo: the commands an operator would give, one after the other, each with what it has to show."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

CACHE = Path(os.environ["KPATCH_CACHE"])
COLLECTION = Path(os.environ["ANSIBLE_COLLECTIONS_PATH"]) / "ansible_collections/kpatch/fleet"
DEMO = COLLECTION / "playbooks/files/demo"
LAB = CACHE / "lab/demo"
HOME = CACHE / "demo"
LOG = HOME / "demo.log"
LATE_HOST = "web2"

RECAP = re.compile(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")

console = Console()


class DemoError(Exception):
    """A step did not do or show what it had to."""


@dataclass
class Step:
    """One command, and how it went: *changed* counts Ansible's changed tasks per host."""

    title: str
    seconds: float = 0.0
    changed: dict[str, int] = field(default_factory=dict)


class Demo:
    """Runs steps, shows them as they go, and keeps their times."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        HOME.mkdir(parents=True, exist_ok=True)
        LOG.unlink(missing_ok=True)

    def playbook(self, title: str, name: str, *options: str, inventory: str | None = None) -> Step:
        """Run the playbook kpatch.fleet.*name*; DemoError if it fails."""
        command = ["ansible-playbook", "-i", inventory or str(LAB / "inventory.yml"), f"kpatch.fleet.{name}"]
        command += ["-e", f"kpatch_home={HOME}", "-e", f"kpatch_cache={CACHE}", *options]
        return self._run(title, command)

    def _run(self, title: str, command: list[str]) -> Step:
        step = Step(f"{len(self.steps) + 1}. {title}")
        console.rule(f"[bold]{step.title}", align="left")
        console.print("$ " + " ".join(command), style="dim", soft_wrap=True, markup=False)
        begin = time.monotonic()
        status = self._stream(command, step)
        step.seconds = time.monotonic() - begin
        self.steps.append(step)
        if status != 0:
            raise DemoError(f"the step '{step.title}' failed; its output is above and in {LOG}")
        return step

    def _stream(self, command: list[str], step: Step) -> int:
        """Show the command's output line by line, keep it in the log, and read Ansible's recap from it."""
        environment = dict(os.environ, ANSIBLE_HOST_KEY_CHECKING="false")
        if sys.stdout.isatty():
            environment["ANSIBLE_FORCE_COLOR"] = "1"
        with (
            LOG.open("a", encoding="utf-8") as log,
            subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
            ) as process,
        ):
            assert process.stdout is not None
            for line in process.stdout:
                plain = COLOUR.sub("", line)
                log.write(plain)
                print(line, end="", flush=True)
                if recap := RECAP.match(plain):
                    step.changed[recap[1]] = int(recap[2])
            return process.wait()


def no_change(step: Step) -> None:
    """DemoError unless the step left every host as it was."""
    changed = {host: count for host, count in step.changed.items() if count and host != "localhost"}
    if changed:
        raise DemoError(f"'{step.title}' had nothing to do and yet changed {changed}")


def old_behaviour(demo: Demo, patches: tuple[str, ...], late: tuple[str, ...]) -> None:
    """The hosts show the old behaviour; what a demo that was interrupted left on them is rolled back first."""
    title = "The old behaviour, read on the hosts"
    try:
        demo.playbook(title, "demo", "-e", "demo_expect=old", *late)
    except DemoError:
        demo.playbook("Roll back what an earlier demo left", "rollback", *patches)
        demo.playbook(title, "demo", "-e", "demo_expect=old", *late)


def run(demo: Demo) -> None:
    """The demo's steps, in order."""
    patches = ("-e", f"@{DEMO / 'patches.yml'}")
    late = ("-e", f"demo_late_host={LATE_HOST}")
    demo.playbook("Make the fleet", "lab", "-e", f"@{DEMO / 'lab.yml'}", inventory="localhost,")
    demo.playbook("Survey it", "survey")
    old_behaviour(demo, patches, late)
    demo.playbook("Build the core module and the patches for each kernel", "build", *patches)
    demo.playbook("Roll out: canary first, then batches", "rollout", *patches)
    demo.playbook(
        f"The new behaviour, also in a module that {LATE_HOST} loads only now",
        "demo",
        *("-e", "demo_expect=new", *late),
    )
    no_change(demo.playbook("Roll out again: nothing to change", "rollout", *patches))
    demo.playbook("What runs where", "status", *patches)
    demo.playbook("Roll back", "rollback", *patches)
    demo.playbook("The old behaviour again", "demo", "-e", "demo_expect=old", *late)


def summary(demo: Demo) -> None:
    """Print what each step took, and where the reports lie."""
    table = Table(title="kpatch.fleet demo", title_justify="left")
    table.add_column("step")
    table.add_column("seconds", justify="right")
    table.add_column("hosts changed", justify="right")
    for step in demo.steps:
        changed = sum(1 for host, count in step.changed.items() if count and host != "localhost")
        table.add_row(step.title, f"{step.seconds:.0f}", str(changed))
    table.add_row("all", f"{sum(step.seconds for step in demo.steps):.0f}", "")
    console.print(table)
    for report in sorted(HOME.glob("rollouts/*/report.md"), key=lambda path: path.stat().st_mtime)[-3:]:
        console.print(f"report: {report}", soft_wrap=True)
    console.print(f"everything that was printed: {LOG}", soft_wrap=True)
    console.print("The VMs are still running; 'make demo-clean' removes them.")


def main() -> int:
    """Run the demo; the exit status is 0 only if every step did and showed what it had to."""
    demo = Demo()
    try:
        run(demo)
    except DemoError as error:
        console.print(f"[bold red]The demo stopped:[/] {error}", soft_wrap=True)
        console.print("The VMs are still running: look at them, or remove them with 'make demo-clean'.")
        return 1
    except KeyboardInterrupt:
        console.print("Interrupted. The VMs may still be running; 'make demo-clean' removes them.")
        return 130
    finally:
        if demo.steps:
            summary(demo)
    return 0


if __name__ == "__main__":
    sys.exit(main())
