# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An operator at three in the morning sees the lost host first, in 60 columns, on any terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from ansible_collections.kpatch.fleet.plugins.callback.progress import CallbackModule, command, going_on
from ansible_collections.kpatch.fleet.plugins.plugin_utils.progress import Progress

HOSTS = [f"web{number:02}" for number in range(12)]


@pytest.fixture
def progress() -> Progress:
    """Batch 2 of 3: one host is lost, one is being changed."""
    seconds = iter([0, 10, 20, 30, 35, 50, 80, 90])
    made = Progress(lambda: float(next(seconds)))
    hosts = {**{host: {"state": "absent"} for host in HOSTS}, "db": {"state": "needs-build"}, "away": {"state": "lost"}}
    made.planned({"id": "r1", "batches": [HOSTS[:1], HOSTS[1:5], HOSTS[5:]], "hosts": hosts})
    for batch, names in ((1, HOSTS[:1]), (2, HOSTS[1:4])):
        made.gate({"open": True, "reasons": [], "batch": batch})
        for host in names:
            made.recorded(host, {"act": True})
    made.recorded("web00", {"state": "applied", "reason": ""})
    made.recorded("web01", {"state": "lost", "reason": "no route"})
    made.recorded("web02", {"state": "applied", "reason": ""})
    return made


def test_lost_hosts_come_first_and_those_that_wait_last(progress: Progress) -> None:
    states = [text.split()[0] for text, _meant in progress.lines(80, 20)[2:]]
    assert states == ["lost", "changing", "waiting", "applied", "slowest:"]
    assert progress.lines(80, 20)[2] == ("lost          web01 away", "bad")


def test_bar_and_counts_are_of_hosts_that_have_an_outcome(progress: Progress) -> None:
    assert progress.finished == 4
    assert progress.lines(80, 20)[1][0].endswith("4/13")
    assert progress.short() == "2 lost, 1 changing, 8 waiting, 2 applied"


@pytest.mark.parametrize(("width", "height"), [(60, 20), (60, 3), (20, 5), (1, 1)])
def test_no_line_is_longer_than_the_terminal_and_there_are_not_more(
    progress: Progress, width: int, height: int
) -> None:
    progress.gate({"open": False, "reasons": ["web01 is lost: " + "x" * 200], "batch": 3})
    lines = progress.lines(width, height)
    assert len(lines) <= height
    if width >= 20:
        assert max(len(text) for text, _meant in lines) <= width


def test_terminal_without_utf8_gets_ascii(progress: Progress) -> None:
    progress.gate({"open": False, "reasons": ["x" * 200], "batch": 3})
    assert all(text.isascii() for text, _meant in progress.lines(60, 20, plain=True))


def test_slowest_are_named_with_their_time(progress: Progress) -> None:
    assert progress.lines(80, 20)[-1][0] == "slowest: web02 60.0 s, web01 40.0 s, web00 35.0 s"


def test_nothing_is_shown_before_there_is_a_plan() -> None:
    assert Progress(lambda: 0.0).lines(80, 20) == []


def test_command_can_be_given_again_and_holds_no_password() -> None:
    given = ["/usr/bin/ansible-playbook", "-i", "my hosts", "-e", "ansible_become_pass=hunter2 a=b", "x"]
    told = command(given)
    assert told.startswith("ansible-playbook -i 'my hosts' -e ")
    assert "hunter2" not in told
    assert "a=b" in told


@pytest.mark.parametrize(
    "hooks",
    ["kpatch_webhooks=https://h/T0/hunter2", '{"kpatch_webhooks": ["https://u:hunter2@h/", "https://h/hunter2"]}'],
)
def test_command_holds_nothing_of_a_webhook_but_its_host(hooks: str) -> None:
    told = command(["ansible-playbook", "-e", hooks])
    assert "hunter2" not in told
    assert "https://h/***" in told


def test_plan_with_batches_left_can_be_taken_up_again_and_the_command_says_so() -> None:
    given = ["ansible-playbook", "-i", "hosts", "kpatch.fleet.rollout"]
    assert going_on(given, "r1")[1].endswith("ansible-playbook -i hosts kpatch.fleet.rollout -e kpatch_plan=r1")
    assert len(going_on(given, "")) == len(going_on([*given, "-e", "kpatch_plan=newest"], "r1")) == 1


def test_batch_that_is_watched_says_so_until_its_verdict(progress: Progress) -> None:
    assert "watched" not in progress.lines(80, 20)[1][0]
    for host in HOSTS[3:5]:
        progress.recorded(host, {"state": "applied"})
    assert "batch 2 of 3, watched" in progress.lines(80, 20)[1][0]
    progress.judged({"verdict": "fail", "reasons": ["web01 is lost"]})
    assert "watched" not in progress.lines(80, 20)[1][0]


def test_picture_is_drawn_with_the_terminal_locked(progress: Progress, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ansible's thread that prints holds that lock and waits for the picture's: else both would wait for ever."""
    free: list[bool] = []

    def draw() -> None:
        def take() -> None:
            free.append(callback._display._lock.acquire(blocking=False))
            if free[-1]:
                callback._display._lock.release()

        thread = threading.Thread(target=take)
        thread.start()
        thread.join()

    callback = CallbackModule()
    callback._progress = progress
    monkeypatch.setattr(callback, "_draw", draw)
    callback._refresh()
    assert free == [False]


PLAY = """
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.debug: {msg: noise}
    - ansible.builtin.fail: {msg: the reason}
      when: inventory_hostname == 'b'
"""


def run(tmp_path: Path, terminal: bool, play: str = PLAY, **environment: str) -> str:
    """What ansible-playbook prints with the callback."""
    (tmp_path / "play.yml").write_text(play)
    argv = [sys.executable, "-m", "ansible", "playbook", "-i", "a,b,", "-c", "local", "play.yml"]
    settings = {**os.environ, "ANSIBLE_STDOUT_CALLBACK": "kpatch.fleet.progress", "COLUMNS": "60", **environment}
    if not terminal:
        return subprocess.run(argv, cwd=tmp_path, env=settings, capture_output=True, text=True, check=False).stdout
    ours, theirs = pty.openpty()
    process = subprocess.Popen(argv, cwd=tmp_path, env=settings, stdout=theirs, stderr=theirs, stdin=theirs)
    os.close(theirs)
    output = b""
    while True:
        try:
            if not (some := os.read(ours, 4096)):
                break
        except OSError:
            break
        output += some
    process.wait()
    return output.decode(errors="replace")


def test_without_a_terminal_it_writes_plain_lines(tmp_path: Path) -> None:
    output = run(tmp_path, terminal=False)
    assert "FAILED b: the reason" in output
    assert "noise" not in output
    assert "to go on, mend that and start it again: " in output
    assert "\x1b" not in output


_NOBODY = "no host is matched by the pattern"


def test_play_without_hosts_is_told_only_if_none_of_the_plays_has_any(tmp_path: Path) -> None:
    nobody = "- hosts: all:!all\n  name: nobody's\n  tasks: []\n"
    output = run(tmp_path, terminal=False, play=PLAY + nobody)
    assert "nobody's" not in output
    assert _NOBODY not in output
    assert _NOBODY in run(tmp_path, terminal=False, play=nobody)


def test_on_a_terminal_it_ends_with_the_same_words(tmp_path: Path) -> None:
    output = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", run(tmp_path, terminal=True, TERM="xterm"))
    assert "FAILED b: the reason" in output
    assert "not as wanted: b" in output
    assert "Traceback" not in output
    assert json.dumps("noise") not in output


ROLLOUT = """
- hosts: all
  gather_facts: false
  strategy: linear
  tasks:
    - ansible.builtin.set_fact: {looks: "{{ {'away': {'unreachable': true, 'msg': 'no route'}} }}"}
    - kpatch.fleet.plan:
        looks: "{{ looks }}"
        patches: [{name: one}]
        store: ./store
        home: ./home
      register: plan
    - kpatch.fleet.gate: {rollout: "{{ plan.rollout }}", hosts: []}
      failed_when: false
    - ansible.builtin.command: sleep 0.1
"""


@pytest.mark.parametrize(("encoding", "plain"), [("ascii", True), ("utf-8", False)])
def test_picture_is_drawn_in_what_the_terminal_can_show(tmp_path: Path, encoding: str, plain: bool) -> None:
    output = run(tmp_path, terminal=True, play=ROLLOUT, TERM="xterm", PYTHONIOENCODING=encoding)
    assert "batch 0 of 0" in output
    assert output.isascii() is plain
