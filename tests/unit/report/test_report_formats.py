# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator, a spreadsheet or a build server is shown is what the ledger says, whatever hosts are named."""

from __future__ import annotations

import csv
import io
import json
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import example_fleet
import example_rollout as example
import jsonschema
import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils import signature
from ansible_collections.kpatch.fleet.plugins.plugin_utils import (
    report,
    report_document,
    report_markdown,
    report_page,
    report_tables,
    safety,
    signer,
)
from ansible_collections.kpatch.fleet.plugins.plugin_utils.ledger import Ledger

PAGE = Path(report_page.__file__).parent / "page"
SCHEMA = json.loads((PAGE / "report.schema.json").read_text())


class Reader(HTMLParser):
    """The tags of a page and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def hostile() -> dict[str, Any]:
    """The report of a fleet in which a host's name and a reason are made to break out."""
    made = example.plan(6, {5: example.HOSTILE})
    made["patch_set"][0]["description"] = example.HOSTILE
    return report_document.document(made, example.ledger(made, {"web002": ("apply-failed", example.HOSTILE)}))


def documents() -> dict[str, dict[str, Any]]:
    made = example.plan()
    bad = example.ledger(made, {"web002": ("lost", "no route")}, batches=2)
    empty = example.plan(0)
    return {
        "done": report_document.document(made, example.ledger(made)),
        "stopped": report_document.document(made, example.shut(made, bad, 3, "web002 is lost: no route")),
        "running": report_document.document(made, example.ledger(made, batches=2)),
        "empty ledger": report_document.document(made, Ledger()),
        "torn": report_document.document(
            made, Ledger(example.ledger(made).entries[:5], ["ledger.jsonl, line 6: not JSON"])
        ),
        "no hosts": report_document.document({**empty, "batches": []}, Ledger()),
    }


DOCUMENTS = documents()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_report_is_as_its_schema_says_and_can_be_written_in_every_format(name: str) -> None:
    document = DOCUMENTS[name]
    jsonschema.validate(json.loads(json.dumps(document)), SCHEMA)
    assert Reader(report_page.html(document)).tags.count("h1") == 1
    assert report_markdown.markdown(document).startswith("# rollout example")
    assert len(report_tables.as_csv(document).splitlines()) == len(document["hosts"]) + 1
    assert len(list(ElementTree.fromstring(report_tables.as_junit(document)).iter("testcase"))) == len(
        document["hosts"]
    )


def test_html_of_hostile_names_is_text(hostile: dict[str, Any]) -> None:
    page = Reader(report_page.html(hostile))
    assert "img" not in page.tags
    assert not [name for name, _value in page.attributes if name.startswith("on")]
    assert '<img src=x onerror="document.title=1">' in page.text


def test_page_asks_for_nothing_on_the_network(hostile: dict[str, Any]) -> None:
    page = Reader(report_page.html(hostile))
    targets = [str(value) for name, value in page.attributes if name in ("src", "href")]
    identities = [value for name, value in page.attributes if name == "id"]
    assert [target for target in targets if target[0] != "#"] == ["data:,"]
    assert {target[1:] for target in targets if target[0] == "#"} <= set(identities)


def test_markdown_of_hostile_names_stays_in_its_cell(hostile: dict[str, Any]) -> None:
    lines = report_markdown.markdown(hostile).splitlines()
    row = next(line for line in lines if line.startswith("| \\<img"))
    head = next(line for line in lines if line.startswith("| host |"))
    assert row.replace("\\|", "").count("|") == head.count("|")
    assert "](" not in row.replace("\\]", "")


def test_csv_has_no_formula_and_reads_back(hostile: dict[str, Any]) -> None:
    hostile["hosts"][0]["reason"] = "=HYPERLINK(1)"
    rows = list(csv.DictReader(io.StringIO(report_tables.as_csv(hostile))))
    assert rows[0]["reason"] == "'=HYPERLINK(1)"
    assert rows[5]["host"] == hostile["hosts"][5]["host"]


def test_junit_tells_failed_and_skipped_hosts_apart() -> None:
    suite = ElementTree.fromstring(report_tables.as_junit(DOCUMENTS["stopped"])).find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("12", "1", "8")
    assert [case.get("name") for case in suite if case.find("failure") is not None] == ["web002"]


def test_control_characters_reach_no_format(hostile: dict[str, Any]) -> None:
    texts = [report_page.html(hostile), report_markdown.markdown(hostile), report_tables.as_junit(hostile)]
    assert not [text for text in [*texts, report_tables.as_csv(hostile)] if "\x1b" in text]
    assert "\\u001b" not in json.dumps(hostile)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("running", "still under way"),
        ("empty ledger", "the ledger has no entry"),
        ("torn", "line 6: not JSON"),
    ],
)
def test_what_the_ledger_does_not_tell_is_said(name: str, words: str) -> None:
    assert any(words in note for note in DOCUMENTS[name]["missing"])
    assert words in Reader(report_page.html(DOCUMENTS[name])).text
    assert words in report_markdown.markdown(DOCUMENTS[name])


def test_nothing_is_missing_of_a_rollout_that_is_done_or_stopped() -> None:
    assert DOCUMENTS["done"]["missing"] == DOCUMENTS["stopped"]["missing"] == []


def test_ledger_of_an_older_version_is_named() -> None:
    made = example.plan(2)
    old = example.ledger(made)
    for entry in old.entries:
        entry.pop("runs", None)
    document = report_document.document(made, old)
    assert "older version" in document["missing"][0]
    report_page.html(document)


def test_entries_with_wrong_values_make_a_report_all_the_same() -> None:
    made = example.plan(2)
    strange: list[dict[str, Any]] = [
        {"event": "gate", "open": "perhaps", "batch": {}},
        {"event": "gate", "open": True, "reasons": 1, "batch": 1},
        {"event": "begin", "host": "nobody", "time": 5},
        {"event": "host", "host": "web000", "state": "applied", "reason": "", "runs": [1], "time": "yesterday"},
        {"event": "resume", "time": "yesterday"},
        {"event": "verdict", "time": "yesterday", "verdict": "pass"},
        {"event": "soon", "time": "yesterday"},
        {"event": "soon", "text": "what a later version wrote"},
    ]
    document = report_document.document(made, Ledger(strange))
    assert len([note for note in document["missing"] if "is not what a ledger has" in note]) == 7
    assert "no time that can be read" in document["missing"][-1]
    report_page.html(document)
    report_markdown.markdown(document)


def test_times_windows_and_taint_are_those_of_the_ledger() -> None:
    first = DOCUMENTS["done"]["hosts"][0]
    assert (first["seconds"], first["window_ns"], first["taint_before"], first["taint_after"]) == (
        3.0,
        400000,
        "",
        "OEK",
    )
    assert DOCUMENTS["done"]["coverage"]["patches"][0]["on"] == 12
    assert DOCUMENTS["stopped"]["timeline"][2]["gate"] == "shut"


def test_narrow_terminal_gets_a_table_that_fits() -> None:
    lines = report.console(DOCUMENTS["stopped"], 60)
    assert max(len(line) for line in lines if line.startswith("web")) <= 60
    assert "web002  2      lost" in lines
    assert "web002: no route" in lines
    assert any("6.1.0-56-cloud-amd64" in line for line in report.console(DOCUMENTS["stopped"], 120))


def test_batch_that_was_taken_back_is_told_as_its_kernels_are_now() -> None:
    made = example.plan(2)
    before = example.ledger(made)
    bare: dict[str, Any] = {
        "kernel": example.KERNELS[0],
        "taint": "OEKD",
        "core": None,
        "patches": [],
        "livepatches": [],
    }
    undone = {"time": "2026-11-23T09:00:00+00:00", "event": "undone", "host": "web000", "batch": 1, "state": "absent"}
    verdict = {"time": undone["time"], "event": "verdict", "batch": 1, "verdict": "fail", "reasons": ["oops"]}
    document = report_document.document(
        made, Ledger([*before.entries, verdict, {**undone, "reason": "", "runs": bare}])
    )
    host = document["hosts"][0]
    assert (host["state"], host["taint_after"], host["window_ns"]) == ("absent", "OEKD", 400000)
    assert (document["timeline"][0]["verdict"], document["timeline"][0]["undone_states"]) == ("fail", {"absent": 1})
    assert host["reason"] == "taken back; it was applied"
    assert document["coverage"]["patches"][0]["on"] == 1


def test_hosts_that_run_the_same_bytes_are_one_line_and_other_bytes_are_told() -> None:
    made = example.plan(4)
    ledger = example.ledger(made)
    runs = [entry for entry in ledger.entries if entry["event"] == "host"][0]["runs"]
    runs["patches"][0]["build_id"] = "ef" * 20
    groups = report_document.document(made, ledger)["fleet"]
    assert [group["hosts"] for group in groups] == [["web001", "web003"], ["web000"], ["web002"]]
    assert [[one["planned"] for one in group["modules"]] for group in groups] == [
        [True] * 3,
        [True, False, True],
        [True] * 3,
    ]


def test_night_with_a_lost_host_tells_what_an_operator_asks() -> None:
    made = example_fleet.plan()
    document = report_document.document(made, example_fleet.ledger(made))
    jsonschema.validate(json.loads(json.dumps(document)), SCHEMA)
    reason = "web14 is lost: ssh: connect to host web14 port 22: Connection timed out; it could not be taken back"
    assert document["decision"]["reasons"] == [reason]
    assert list(document["counts"]) == ["lost", "absent", "needs-build", "held", "applied"]
    assert report.console(document)[4].startswith("web14 ")
    assert document["next"][-1].endswith(f"kpatch.fleet.rollout -e kpatch_plan={made['id']}")
    assert (document["timeline"][2]["states"], document["timeline"][2]["undone_states"]) == (
        {"applied": 11, "lost": 1},
        {"absent": 11, "lost": 1},
    )
    text = Reader(report_page.html(document)).text
    for words in ("3 min 9 s later", "Batch 3 was taken back", f"all signed by {example_fleet.SIGNER}"):
        assert words in text
    # A host that was given up says nothing of how long a transition takes.
    assert "web14: 68" not in text


def test_safety_report_of_the_builder_reaches_the_page(tmp_path: Path) -> None:
    told = {"consistency": {"suffices": "leave kernel"}, "risks": [{"where": "struct sock", "risk": "old layout"}]}
    (tmp_path / safety.FILE).write_text(json.dumps(told))
    assert safety.lines(tmp_path) == ["What suffices: leave kernel", "struct sock: old layout"]
    (tmp_path / safety.FILE).write_text("[]")
    assert safety.lines(tmp_path) == safety.lines(tmp_path / "missing") == []
    assert "leave function, switch function." in Reader(report_page.html(DOCUMENTS["done"])).text


def test_signer_is_the_key_that_ssh_keygen_names(tmp_path: Path) -> None:
    keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")]
    subprocess.run(keygen, check=True)
    told = subprocess.run(["ssh-keygen", "-l", "-f", str(tmp_path / "key")], capture_output=True, text=True, check=True)
    (tmp_path / signature.NAME).write_text(signature.sign("text", tmp_path / "key"))
    assert signer.fingerprint(tmp_path) == told.stdout.split()[1]
    (tmp_path / signature.NAME).write_text("-----BEGIN\nU1NI\n")
    assert signer.fingerprint(tmp_path) == signer.fingerprint(tmp_path / "missing") == ""
