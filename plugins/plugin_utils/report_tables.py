# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report for other programs: CSV for spreadsheets, JUnit for what shows test results."""

from __future__ import annotations

import csv
import io
import re
from typing import Any
from xml.etree import ElementTree

from ansible_collections.kpatch.fleet.plugins.plugin_utils.states import FAULTS

_COLUMNS = (
    "host",
    "kernel",
    "batch",
    "before",
    "state",
    "reason",
    "begin",
    "end",
    "seconds",
    "window_ns",
    "taint_before",
    "taint_after",
)
# A spreadsheet would take a cell that begins so for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
# What XML 1.0 can't hold, not even escaped.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def as_csv(report: dict[str, Any]) -> str:
    """One line a host."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for host in report["hosts"]:
        writer.writerow([_cell(host[column]) for column in _COLUMNS])
    return stream.getvalue()


def as_junit(report: dict[str, Any]) -> str:
    """One test case a host: a fault fails, what was left out or held is skipped."""
    cases = report["hosts"]
    faults = [host for host in cases if _fails(host)]
    skipped = [host for host in cases if not _fails(host) and host["state"] != report["want"]]
    suite = ElementTree.Element(
        "testsuite",
        name=_xml(f"kpatch.fleet {report['id']}"),
        tests=str(len(cases)),
        failures=str(len(faults)),
        errors="0",
        skipped=str(len(skipped)),
        timestamp=_xml(report["created"]),
    )
    for host in cases:
        suite.append(_case(report, host))
    root = ElementTree.Element("testsuites")
    root.append(suite)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _case(report: dict[str, Any], host: dict[str, Any]) -> ElementTree.Element:
    case = ElementTree.Element(
        "testcase", classname=_xml(host["kernel"]), name=_xml(host["host"]), time=f"{host['seconds'] or 0:.3f}"
    )
    if host["state"] != report["want"]:
        kind = "failure" if _fails(host) else "skipped"
        told = ElementTree.SubElement(case, kind, message=_xml(host["state"]))
        told.text = _xml(host["reason"])
    return case


def _fails(host: dict[str, Any]) -> bool:
    return host["state"] in FAULTS


def _cell(value: Any) -> str:
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


def _xml(text: Any) -> str:
    return _NOT_XML.sub("\ufffd", str(text))
