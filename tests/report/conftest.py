# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A report, opened in Debian's Chromium."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

Scheme = Literal["light", "dark"]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # Root can't have Chromium's sandbox.
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a stopped rollout on 40 hosts, one of them with a name that is made to break out."""
    import example_fleet
    import example_rollout
    from ansible_collections.kpatch.fleet.plugins.plugin_utils import report_document, report_page

    made = example_fleet.plan(web22=example_rollout.HOSTILE)
    path = tmp_path_factory.mktemp("report") / "report.html"
    document = report_document.document(made, example_fleet.ledger(made))
    path.write_text(report_page.html(document), encoding="utf-8")
    return path


@pytest.fixture(params=["light", "dark"])
def scheme(request: pytest.FixtureRequest) -> Scheme:
    param: Scheme = request.param
    return param


class Opened:
    """The page, and what it complained of."""

    def __init__(self, context: BrowserContext, path: Path) -> None:
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page: Page = context.new_page()
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())

    def screenshot(self, name: str) -> None:
        """Kept where REPORT_SCREENSHOTS says, for people to look at."""
        if directory := os.environ.get("REPORT_SCREENSHOTS"):
            self.page.screenshot(path=Path(directory) / f"{name}.png", full_page=True)


@pytest.fixture
def opened(browser: Browser, page_file: Path, scheme: Scheme) -> Iterator[Opened]:
    context = browser.new_context(color_scheme=scheme, viewport={"width": 1200, "height": 900})
    yield Opened(context, page_file)
    context.close()
