# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks tell the webhooks what happens, in order; the last metrics are those of the last rollout."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

from conftest import Fleet


def test_stop_is_told_from_the_start_to_the_end(fleet: Fleet, tmp_path: Path) -> None:
    events: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            events.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["event"])
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_arguments: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    told = {
        "kpatch_webhooks": [f"http://127.0.0.1:{server.server_port}/x", "http://127.0.0.1:9/"],
        "kpatch_metrics": str(tmp_path / "rollout.prom"),
    }
    fleet.update("h2", faults={"patch": "fail"})
    run = fleet.run("rollout", "-e", json.dumps(told))
    server.shutdown()
    server.server_close()
    assert events == ["start", "batch", "batch", "wait", "stop"]
    assert run.failed == ["h2"]
    assert "the webhook at 127.0.0.1 was not told" in run.output
    assert 'kpatch_rollout_verdict{verdict="stop"} 1.0' in (tmp_path / "rollout.prom").read_text()
