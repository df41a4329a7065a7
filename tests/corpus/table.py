# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of a corpus run, in Markdown."""

from __future__ import annotations

import re
from collections import Counter

from outcome import BUILT, DATA, ERROR, INCOMPLETE, REFUSED, UNCHANGED, WIDE, Outcome

_MEANING = {
    BUILT: "a patch module, without hand work",
    UNCHANGED: "no function's code differs in this configuration",
    DATA: "data differs that is in use, or was used at boot, and no function's code; refused, as below",
    REFUSED: "can't be patched; the reasons are below",
    INCOMPLETE: "lacks what is not in the update's C files and headers; what, is below",
    WIDE: "needs a header in which it changes what too many files may use: each costs a comparison; not tried",
    ERROR: "the builder's fault",
}
_WIDTH = 160


def table(title: str, command: str, outcomes: list[Outcome], tried: str) -> str:
    """The section of docs/coverage.md for one run; *tried* says of how many files."""
    counts = Counter(outcome.result for outcome in outcomes)
    code = counts[BUILT] + counts[REFUSED] + counts[ERROR]
    share = f"{100 * counts[BUILT] / code:.0f} %" if code else "none"
    lines = [f"## {title}", "", f"`{command}`", ""]
    lines += [tried, ""]
    lines += ["| outcome | files | |", "|---|---:|---|"]
    lines += [f"| {result} | {counts[result]} | {meaning} |" for result, meaning in _MEANING.items()]
    told = f"Of {code} files whose code changed, {counts[BUILT]} were built: {share}"
    lines += ["", f"{told}; incomplete and wide ones are not among them."]
    more = sum(1 for outcome in outcomes if outcome.result == BUILT and outcome.files)
    lines += [f"In {more} of those patches the file has others with it, which it lacks alone."]
    lines += ["", *_booted(outcomes), "", *_refusals(outcomes), *_lacking(outcomes)]
    lines += [
        "<details><summary>All files</summary>",
        "",
        "| file | with it | outcome | functions | in the kernel |",
        "|---|---|---|---:|---|",
    ]
    lines += [f"| {o.path} | {', '.join(o.files)} | {o.result} | {o.functions or ''} | {o.booted} |" for o in outcomes]
    return "\n".join([*lines, "", "</details>", ""])


def _booted(outcomes: list[Outcome]) -> list[str]:
    built = [outcome for outcome in outcomes if outcome.result == BUILT]
    tried = [outcome for outcome in built if outcome.booted]
    good = [outcome for outcome in tried if outcome.booted == "ok"]
    said = f"Of the {len(built)} modules, {len(tried)} were loaded into the booted kernel; {len(good)} loaded, "
    lines = [said + "were disabled, enabled again, disabled and unloaded."]
    again = [outcome for outcome in tried if outcome.lost]
    if again:
        lost = sum(outcome.lost for outcome in again)
        lines += [f"The machine was lost {lost} times; what was tried then was tried again in another one."]
    return lines + [f"- {outcome.path}: {_cell(outcome.booted)}" for outcome in tried if outcome not in good]


def _refusals(outcomes: list[Outcome]) -> list[str]:
    """How often each reason was given: once per file, whatever the names in it."""
    reasons = Counter(
        kind
        for outcome in outcomes
        if outcome.result in (DATA, REFUSED)
        for kind in {_kind(reason) for reason in outcome.reasons}
    )
    if not reasons:
        return []
    lines = ["| why refused | files |", "|---|---:|"]
    return [*lines, *(f"| {kind} | {count} |" for kind, count in reasons.most_common()), ""]


def _lacking(outcomes: list[Outcome]) -> list[str]:
    """What each file lacks."""
    lines = [
        f"| {outcome.path} | {_cell(reason.split(': ', 2)[-1])} |"
        for outcome in outcomes
        if outcome.result in (INCOMPLETE, WIDE)
        for reason in outcome.reasons
    ]
    return ["| file | what it lacks |", "|---|---|", *lines, ""] if lines else []


def _kind(reason: str) -> str:
    # What is behind it is the mend, and names the function.
    text = reason.split(": ", 2)[-1].partition("; ")[0]
    return _cell(re.sub(r"0x[0-9a-f]+|\b[0-9]+\b", "N", text))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")[:_WIDTH]
