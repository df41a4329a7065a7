# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page in a browser: a report that can't be sorted, read in the dark, printed or heard helps nobody at night."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from conftest import Opened
from playwright.sync_api import Browser

AXE = Path(os.environ["AXE"])
COLUMN = "rows => rows.filter(row => !row.hidden).map(row => row.cells[{}].textContent.trim())"


def column(opened: Opened, number: int) -> list[str]:
    found: list[str] = opened.page.eval_on_selector_all("#host-table tbody tr", COLUMN.format(number))
    return found


def violations(opened: Opened) -> list[str]:
    opened.page.evaluate(AXE.read_text())
    result: dict[str, Any] = opened.page.evaluate("axe.run()")
    return [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in result["violations"]]


def test_nothing_is_complained_of_and_nothing_is_fetched(opened: Opened, scheme: str) -> None:
    opened.screenshot(f"report-{scheme}")
    assert opened.complaints == []
    assert [url for url in opened.requests if not url.startswith(("file:", "data:"))] == []
    assert opened.page.title().endswith("stopped before batch 4 of 4")


def test_host_that_needs_a_look_is_the_first(opened: Opened) -> None:
    assert column(opened, 0)[0] == "web14"
    assert opened.page.locator(".fleet .cell").count() == 40
    assert opened.page.locator(".fleet .cell.bad").count() == 1


def test_axe_finds_nothing(opened: Opened) -> None:
    opened.page.click("#log ~ details summary")
    assert violations(opened) == []


def test_sorts_by_text_and_by_number_in_both_directions(opened: Opened) -> None:
    opened.page.click("#host-table button:text-is('host')")
    names = [name for name in column(opened, 0) if name[0].isalpha()]
    assert names == sorted(names)
    opened.page.click("#host-table button:text-is('took')")
    opened.page.click("#host-table button:text-is('took')")
    took = [float(text.split()[0]) for text in column(opened, 5) if text != "–"]
    assert took == sorted(took, reverse=True)
    assert opened.page.get_attribute("#host-table th[aria-sort]", "aria-sort") == "descending"


def test_filters_by_state_kernel_and_text(opened: Opened) -> None:
    opened.page.select_option("#filter-state", "lost")
    assert column(opened, 0) == ["web14"]
    assert opened.page.inner_text("#shown") == "1 of 40 hosts"
    opened.page.select_option("#filter-state", "")
    opened.page.select_option("#filter-kernel", "6.1.0-56-cloud-amd64")
    assert set(column(opened, 1)) == {"6.1.0-56-cloud-amd64"}
    opened.page.fill("#filter-text", "WEB04")
    assert column(opened, 0) == ["web04"]
    opened.page.fill("#filter-text", "no such host")
    assert opened.page.inner_text("#shown") == "0 of 40 hosts"


def test_keyboard_alone_sorts(opened: Opened) -> None:
    opened.page.focus("#host-table button:text-is('state')")
    opened.page.keyboard.press("Enter")
    assert column(opened, 4) == sorted(column(opened, 4))


def test_name_that_is_made_to_break_out_is_shown_as_text(opened: Opened) -> None:
    assert [name for name in column(opened, 0) if name.startswith("<img")]
    assert opened.page.locator("img").count() == 0


def test_print_shows_everything_in_black_on_white(opened: Opened, scheme: str) -> None:
    opened.page.emulate_media(media="print")
    opened.screenshot(f"report-print-{scheme}")
    assert opened.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not opened.page.is_visible("form.filters")
    assert len(opened.page.pdf()) > 10000


@pytest.mark.parametrize("width", [360, 1200])
def test_page_is_no_wider_than_the_window(opened: Opened, width: int, scheme: str) -> None:
    opened.page.set_viewport_size({"width": width, "height": 800})
    opened.screenshot(f"report-{width}-{scheme}")
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width


def test_page_without_scripts_is_whole(browser: Browser, page_file: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(page_file.as_uri())
    assert page.locator("#host-table tbody tr").count() == 40
    context.close()
