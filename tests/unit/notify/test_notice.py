# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The webhook of a chat is told what happened, and one that is broken does no harm."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import example_rollout as example
import pytest
from ansible_collections.kpatch.fleet.plugins.plugin_utils import notice
from ansible_collections.kpatch.fleet.plugins.plugin_utils.errors import FleetError
from ansible_collections.kpatch.fleet.plugins.plugin_utils.ledger import Ledger


class Webhook:
    """A server on loopback that keeps what it is sent, and answers with *status*."""

    def __init__(self) -> None:
        self.status = 200
        self.got: list[dict[str, Any]] = []
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                webhook.got.append(json.loads(body))
                self.send_response(webhook.status)
                self.end_headers()

            def log_message(self, *_arguments: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook/s3cret"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    made = Webhook()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def stopped() -> dict[str, Any]:
    made = example.plan(8)
    ledger = example.shut(made, example.ledger(made, {"web002": ("lost", "no route")}, 2), 3, "web002 is lost")
    return notice.make(made, ledger, "end")


def test_stop_is_told_with_its_reason_and_what_to_do(webhook: Webhook, stopped: dict[str, Any]) -> None:
    assert notice.send(webhook.url, stopped) == ""
    (got,) = webhook.got
    assert (got["event"], got["counts"]) == ("stop", {"applied": 3, "lost": 1, "held": 4})
    assert got["text"].startswith("rollout example stopped before batch 3 of 3 (8 hosts: ")
    assert "web002 is lost: no route" in got["text"]
    assert "bring the host back" in got["text"]


def test_start_and_done_are_told_apart() -> None:
    made = example.plan(4)
    assert notice.make(made, Ledger(), "start")["event"] == "start"
    assert notice.make(made, example.ledger(made), "end")["event"] == "done"


def test_server_that_refuses_is_told_of_without_the_token(webhook: Webhook, stopped: dict[str, Any]) -> None:
    webhook.status = 500
    problem = notice.send(webhook.url, stopped)
    assert "127.0.0.1 was not told: it answered 500" in problem
    assert "s3cret" not in problem


def test_server_that_is_not_there_does_no_harm(stopped: dict[str, Any]) -> None:
    problem = notice.send("http://127.0.0.1:9/hook/s3cret", stopped)
    assert problem.startswith("the webhook at 127.0.0.1 was not told")
    assert "s3cret" not in problem


@pytest.mark.parametrize("url", ["", "ftp://x/y", "file:///etc/passwd", "chat.example/hook"])
def test_what_is_no_webhook_is_refused(url: str) -> None:
    with pytest.raises(FleetError, match="kpatch_webhooks"):
        notice.check(url)
