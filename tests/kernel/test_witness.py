# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each model against visitors who notice when old and new functions meet: it keeps what it promises, and no more.

If a promise is not kept, a patch that changes two functions together corrupts data while it is switched. If a model
keeps what it does not promise, the visitors have not looked.

CYCLES says how often each patch goes off and on at least. Few cycles may miss what a model lets happen: then it goes
on until all of that was seen, or time is up. WITNESS_TABLE names a page that the results are written to. With BELOW=yes
a patch below that changes nothing keeps the functions' ftrace sites: rounds are a matter of the switch alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from host import CORE, Host
from models import MODELS, Model
from witness_table import Row, write_table

CYCLES = int(os.environ.get("CYCLES", "5"))
TABLE = os.environ.get("WITNESS_TABLE")
BELOW = os.environ.get("BELOW") == "yes"
_SECONDS_PER_CYCLE = 4.0
_SECONDS_AT_LEAST = 60.0
_DEADLINE_MS = {"function": 30000, "patched_set": 30000, "kernel": 1000}
_DRIVER = Path(__file__).with_name("witness_drive.py")


@pytest.fixture(scope="module")
def rows() -> Iterator[list[Row]]:
    """What the tests have found; the table is written with the last one."""
    found: list[Row] = []
    yield found
    if TABLE:
        write_table(Path(TABLE), found)


def hammer(host: Host, chosen: Model) -> dict[str, Any]:
    """Switch the patch under fire; what the judge and the driver counted."""
    seconds = max(CYCLES * _SECONDS_PER_CYCLE, _SECONDS_AT_LEAST)
    asked = {
        "patch": "kpt_swap",
        "cycles": CYCLES,
        "breaks": sorted(chosen.breaks),
        "seconds": seconds,
        "thread": chosen.switch == "thread",
    }
    host.load("kpt_judge")
    host.load("kpt_witness")
    host.run("echo switch > /proc/kpt_judge")
    if BELOW:
        # It changes nothing, so nobody has to have left anything.
        host.load("kpt_below", *MODELS[0].parameters())
    # Half of it passes before tasks that sleep in the kernel are woken: the rest of a transition is the same.
    host.run(f"echo {_DEADLINE_MS[chosen.leave]} > {CORE}/deadline_ms")
    # Kernel threads visit already, and any switch may be refused meanwhile, as the driver's may.
    host.load_under_fire("kpt_swap", *chosen.parameters())
    return dict(json.loads(host.drive(_DRIVER, json.dumps(asked), timeout=120 + 3 * seconds)))


@pytest.mark.parametrize("chosen", MODELS, ids=str)
def test_it_keeps_what_it_promises_and_no_more(host: Host, chosen: Model, rows: list[Row]) -> None:
    seen = hammer(host, chosen)
    rows.append(Row(host.run("uname -r").strip(), str(chosen), sorted(chosen.promises), seen))
    print(rows[-1].cells(), seen["refused"][:3])
    assert seen["old"] > 0
    assert seen["new"] > 0
    assert {level: seen[level] for level in chosen.promises} == dict.fromkeys(chosen.promises, 0)
    unseen = [level for level in chosen.breaks if seen[level] == 0]
    assert not unseen, f"the visitors did not notice what {chosen} does not promise"
