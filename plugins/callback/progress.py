# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows a rollout as it goes, instead of Ansible's tasks."""

from __future__ import annotations

DOCUMENTATION = r"""
name: progress
type: stdout
short_description: Shows how far a survey, build or rollout of kpatch.fleet is
version_added: 1.0.0
author:
  - kpatch.fleet contributors (@kpatch-fleet)
description:
  - On a terminal, and with the Python package C(rich) on the controller, the rollout is shown in place - its batch, its
    hosts by state with lost ones first, the slowest transitions, and why it stopped.
  - Without a terminal (AWX, a pipe, a log file) it writes one line for each thing that happens, without colours.
  - It ends with the command that goes on, if something is left to do. What looks like a password in it, and all of a
    URL but its host, is left out.
  - Tasks of other collections are shown only if they fail.
requirements:
  - set as stdout callback in configuration
options:
  live:
    description:
      - Whether the rollout is shown in place.
      - V(auto) does so on a terminal that can move its cursor.
    type: str
    choices: [auto, never]
    default: auto
    env:
      - name: KPATCH_PROGRESS_LIVE
    ini:
      - section: callback_kpatch_progress
        key: live
"""

EXAMPLES = r"""
# Once: ANSIBLE_STDOUT_CALLBACK=kpatch.fleet.progress ansible-playbook -i hosts kpatch.fleet.rollout
# Always, in ansible.cfg:
# [defaults]
# stdout_callback = kpatch.fleet.progress
"""

import re
import shlex
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase
from ansible_collections.kpatch.fleet.plugins.plugin_utils.progress import Progress

try:
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    HAS_RICH = True
except ImportError:
    HAS_RICH = False

_OURS = "kpatch.fleet."
_BUILDS = ("core_build", "patch_build", "matrix_build")
_STYLES = {"good": "green", "bad": "bold red", "busy": "yellow", "": ""}
_SECRET = re.compile(r"((?:pass|secret|token|key)[^=:\s]*[=:]\s*)[^\s,}]+", re.IGNORECASE)
# What of a URL, a webhook's for instance, may be a secret: all but the host.
_URL = re.compile(r"(https?://)(?:[^/\s@\"']*@)?([^/?#\s\"',\]}]+)[^\s\"',\]}]*")
# What the live picture leaves to the lines that are printed above it.
_HEIGHT = 16
# Between two lines with the counts, in seconds, as long as a batch is under way.
_PAUSE = 10


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """Reads the results of the collection's own tasks; the tasks themselves print what is to stay in the log."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "kpatch.fleet.progress"

    def __init__(self) -> None:
        super().__init__()
        self._progress = Progress(time.monotonic)
        self._live: Any = None
        # The play that goes on, and the one that was said last.
        self._play, self._said = "", ""
        self._ended = False
        self._started: dict[str, float] = {}
        # What was said last of the counts, and when.
        self._told, self._told_at = "", 0.0

    def v2_playbook_on_play_start(self, play: Any) -> None:
        # A play without hosts, as there is one for those that went wrong, is not worth a line.
        self._play = play.get_name()

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:  # noqa: ARG002
        # With serial the same play starts once for each batch.
        if self._said != self._play:
            self._said = self._play
            self._say(f"-- {self._play}")
        if _action(task) == "report":
            # What is printed from here on is to be copied: no line of it may be broken to fit the picture.
            self._end_picture()

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        if _action(task) in _BUILDS:
            self._started[task._uuid] = time.monotonic()
            self._say(f"{host.get_name()}: {task.get_name().rpartition(' : ')[2]}")

    def v2_runner_on_ok(self, result: Any) -> None:
        action, values = _action(result.task), result.result
        if action == "plan":
            self._progress.planned(values)
            self._ended = False
        elif action == "gate":
            self._progress.gate(values)
        elif action == "judge":
            self._progress.judged(values)
        elif action == "record":
            self._recorded(result.host.get_name(), values)
        elif action == "report":
            self._progress.reported(values)
        elif action in _BUILDS:
            took = time.monotonic() - self._started.pop(result.task._uuid, time.monotonic())
            self._say(f"  built in {took:.1f} s" if values.get("changed") else "  is in the store")
        self._refresh()

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        if ignore_errors:
            return
        host = result.host.get_name()
        self._say(f"FAILED {host}: {_message(result.result).removeprefix(f'{host} is ')}", "bad")

    def v2_runner_on_unreachable(self, result: Any) -> None:
        if result.task.ignore_unreachable:
            return
        self._say(f"LOST {result.host.get_name()}: {_message(result.result)}", "bad")

    def v2_playbook_on_no_hosts_matched(self) -> None:
        if self._said:
            return
        self._say("no host is matched by the pattern; what do -i, --limit and kpatch_hosts say?", "bad")

    def v2_playbook_on_stats(self, stats: Any) -> None:
        self._end_picture()
        wrong = sorted(host for host in stats.processed if stats.failures.get(host) or stats.dark.get(host))
        if wrong:
            more = f" and {len(wrong) - 10} more" if len(wrong) > 10 else ""
            self._say(f"not as wanted: {', '.join(wrong[:10])}{more}", "bad")
        if wrong or self._progress.verdict in ("stop", "go"):
            for line in going_on(sys.argv, self._progress.identity if self._progress.pending else ""):
                self._say(line)

    def _recorded(self, host: str, values: dict[str, Any]) -> None:
        self._progress.recorded(host, values)
        told = f"  {self._progress.finished} of {len(self._progress.states)}: {self._progress.short()}"
        due = self._progress.watching or time.monotonic() >= self._told_at + _PAUSE
        if not self._live and due and told != self._told:
            self._told, self._told_at = told, time.monotonic()
            self._say(told)

    def _end_picture(self) -> None:
        self._ended = True
        if self._live:
            with self._terminal():
                self._live.stop()
            self._live = None

    def _terminal(self) -> Any:
        """Ansible's lock of the terminal, which comes before the picture's own.

        The thread that prints what workers say holds it while it waits for the picture's: a picture that was drawn
        without it would wait for that thread, and neither would ever go on.
        """
        return getattr(self._display, "_lock", nullcontext())

    def _refresh(self) -> None:
        """Draw the picture again; the first time there is one, begin with it."""
        with self._terminal():
            self._draw()

    def _draw(self) -> None:
        if not self._live and self._progress.identity and not self._ended:
            self._live = _live(str(self.get_option("live")))
        if self._live:
            console = self._live.console
            # Ansible wants a locale of UTF-8; PYTHONIOENCODING says if the terminal has less.
            plain = not str(console.encoding).lower().startswith("utf")
            lines = self._progress.lines(console.width, min(_HEIGHT, console.height - 2), plain)
            self._live.update(Group(*(Text(text, style=_STYLES[meant]) for text, meant in lines)), refresh=True)

    def _say(self, text: str, meant: str = "") -> None:
        self._display.display(text, color="red" if meant == "bad" else None)
        self._refresh()


def _live(wanted: str) -> Any:
    """A picture that is drawn in place, or None if the terminal can't or is not to."""
    if not HAS_RICH or wanted != "auto":
        return None
    console = Console(highlight=False)
    if not console.is_terminal or console.is_dumb_terminal:
        return None
    # Without a thread of its own: Ansible forks its workers from this process.
    live = Live(console=console, auto_refresh=False, transient=True)
    live.start()
    return live


def going_on(arguments: list[str], plan: str) -> list[str]:
    """How to go on after a run that was started with *arguments*; *plan* is one that has batches left, if there is."""
    again = f"to go on, mend that and start it again: {command(arguments)}"
    if not plan or any("kpatch_plan" in argument for argument in arguments):
        return [again]
    return [again, f"or, with the batches of this plan: {command([*arguments, '-e', f'kpatch_plan={plan}'])}"]


def command(arguments: list[str]) -> str:
    """The command line that was given, to be given again; passwords are left out."""
    told = [_SECRET.sub(r"\1***", _URL.sub(r"\1\2/***", argument)) for argument in arguments[1:]]
    return shlex.join([Path(arguments[0]).name, *told])


def _action(task: Any) -> str:
    """The name of a module of ours without the collection's, else nothing."""
    name = str(task.resolved_action or task.action)
    return name[len(_OURS) :] if name.startswith(_OURS) else ""


def _message(result: dict[str, Any]) -> str:
    return " ".join(str(result.get("msg") or "it did not say why").split())
