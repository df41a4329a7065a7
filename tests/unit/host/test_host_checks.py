# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""If this breaks, a service that is down passes for one that is up, or one that can't be asked for one that is down."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils.host import checks


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_PAUSE", 0)


def verdict(root: Path, **check: Any) -> str:
    return checks.run(root, [{"name": "x", **check}])[0]["verdict"]


class Answers(http.server.BaseHTTPRequestHandler):
    statuses: list[int] = []

    def do_GET(self) -> None:
        self.send_response(self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0])
        self.end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    found = http.server.HTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{found.server_port}/"
    found.shutdown()
    found.server_close()


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("true", "pass"),
        ("false", "fail"),
        (["sh", "-c", "exit 1"], "fail"),
        ("no-such-program", "inconclusive"),
        (["sh", "-c", "no-such-program"], "inconclusive"),
    ],
)
def test_command(tmp_path: Path, command: Any, said: str) -> None:
    assert verdict(tmp_path, command=command) == said


def test_command_without_end_is_inconclusive(tmp_path: Path) -> None:
    assert verdict(tmp_path, command="sleep 60", timeout=0.1) == "inconclusive"


def test_what_fails_is_asked_again(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    assert verdict(tmp_path, command=["sh", "-c", f"test -e {flag} || {{ touch {flag}; false; }}"]) == "pass"


@pytest.mark.parametrize(
    ("statuses", "wanted", "said"),
    [([200], 200, "pass"), ([500], 200, "fail"), ([404], 404, "pass"), ([503, 503, 200], 200, "pass")],
)
def test_url(tmp_path: Path, server: str, statuses: list[int], wanted: int, said: str) -> None:
    Answers.statuses = list(statuses)
    assert verdict(tmp_path, url=server, status=wanted) == said


def test_url_that_nobody_listens_at(tmp_path: Path) -> None:
    assert verdict(tmp_path, url="http://127.0.0.1:9/") == "fail"
    assert verdict(tmp_path, url="http://no-such-host.invalid/") == "inconclusive"


def test_load(tmp_path: Path) -> None:
    assert verdict(tmp_path, load=1) == "inconclusive"
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/loadavg").write_text("1000.0 1 1 1/1 1\n")
    assert (verdict(tmp_path, load=1), verdict(tmp_path, load=1001)) == ("fail", "pass")


def test_errors_in_the_kernels_log(tmp_path: Path) -> None:
    assert verdict(tmp_path, errors=0) == "inconclusive"


def test_only_errors_of_the_last_minute_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    now = int(time.clock_gettime(time.CLOCK_MONOTONIC) * 1e6)
    log = [f"3,1,{now},-;nvme: I/O error\n", f"3,2,{now - 10**8},-;nvme: I/O error\n", f"6,3,{now},-;fine\n"]
    monkeypatch.setattr("ansible_collections.kpatch.fleet.plugins.module_utils.host.kernel_log._records", lambda _: log)
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/kmsg").touch()
    assert (verdict(tmp_path, errors=0), verdict(tmp_path, errors=1)) == ("fail", "pass")
    assert verdict(tmp_path, errors=0, pattern="^ext4") == "pass"
    assert verdict(tmp_path, errors=0, pattern="(") == "inconclusive"


def test_service_without_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert verdict(tmp_path, service="web") == "inconclusive"


@pytest.mark.parametrize(("status", "said"), [(0, "pass"), (3, "fail"), (4, "inconclusive")])
def test_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, said: str) -> None:
    (tmp_path / "systemctl").write_text(f"#!/bin/sh\nexit {status}\n")
    (tmp_path / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert verdict(tmp_path, service="web") == said
