# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells the operators' chat or pager how a rollout stands: one JSON object, sent to each webhook."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

from ansible.module_utils.urls import open_url
from ansible_collections.kpatch.fleet.plugins.plugin_utils import report, report_document
from ansible_collections.kpatch.fleet.plugins.plugin_utils.errors import FleetError
from ansible_collections.kpatch.fleet.plugins.plugin_utils.ledger import Ledger

EVENTS = ("start", "batch", "wait", "end")
_TIMEOUT = 10
_REASONS = 10


def make(plan: dict[str, Any], ledger: Ledger, event: str) -> dict[str, Any]:
    """The notice; 'text' is what chats show."""
    document = report_document.document(plan, ledger)
    reasons = document["decision"]["reasons"]
    kind = event if event != "end" else {"stop": "stop", "done": "done"}.get(document["decision"]["verdict"], "end")
    lines = [f"{report.title(document)} ({report.counts(document)})", *reasons[:_REASONS], *document["next"][:_REASONS]]
    return {
        "event": kind,
        "id": document["id"],
        "want": document["want"],
        "patches": document["patches"],
        "summary": document["summary"],
        "counts": document["counts"],
        "reasons": reasons,
        "next": document["next"],
        "text": "\n".join(lines),
    }


def check(url: str) -> str:
    """*url* if it can be a webhook's."""
    parts = urlsplit(url)
    if parts.scheme in ("http", "https") and parts.hostname:
        return url
    raise FleetError("kpatch_webhooks: each has to be an http or https URL; one of them is not")


def send(url: str, notice: dict[str, Any]) -> str:
    """Post *notice*; what went wrong, without what of the URL may be secret, or nothing."""
    where = urlsplit(url).hostname
    try:
        body = json.dumps(notice).encode()
        open_url(url, data=body, headers={"Content-Type": "application/json"}, method="POST", timeout=_TIMEOUT).close()
    except Exception as error:
        # Whatever a server, a proxy or TLS comes up with: a notice that is lost must not stop a rollout.
        code = getattr(error, "code", None)
        return f"the webhook at {where} was not told: {f'it answered {code}' if code else type(error).__name__}"
    return ""
