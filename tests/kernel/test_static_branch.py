# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Static branches in a function of a module that loads after its patch: on a key of the module's own, and of vmlinux.

If these fail, patched code takes the wrong side of a branch, or goes on taking the one that was right when it was
loaded.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from builder import Builder
from host import Host

FILE, HEADER = "net/bridge/br_stp.c", "net/bridge/br_private.h"
SAYS = """\tp->state = state;
\tif (static_branch_unlikely(&br_mst_used))
\t\tbr_info(p->br, "kpatch: MST is used\\n");
\tif (static_branch_likely(&br_mst_used))
\t\tbr_info(p->br, "kpatch: MST is used, as was likely\\n");
\tif (static_branch_unlikely(&delayacct_key))
\t\tbr_info(p->br, "kpatch: delays are counted\\n");
"""
MST = ["kpatch: MST is used", "kpatch: MST is used, as was likely"]
DELAYS = ["kpatch: delays are counted"]

# RTM_NEWLINK: the bridge kpt0 gets or loses BR_BOOLOPT_MST_ENABLE, which iproute2 does not know everywhere.
SET_MST = """python3 -c '
import socket, struct
def attribute(kind, data):
    return struct.pack("HH", len(data) + 4, kind) + data + bytes(-len(data) % 4)
options = attribute(46, struct.pack("II", {value} << 2, 1 << 2))
link = attribute(18, attribute(1, b"bridge\\0") + attribute(2, options))
body = struct.pack("BxHiII", 0, 0, socket.if_nametoindex("kpt0"), 0, 0) + link
netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
netlink.send(struct.pack("IHHII", 16 + len(body), 16, 5, 1, 0) + body)
error, = struct.unpack_from("i", netlink.recv(4096), 16)
exit(str(error) if error else 0)'"""


@pytest.fixture
def bridge(host: Host, builder: Builder) -> Iterator[Host]:
    """The machine without the bridge, which goes when the test is over."""
    if "br_mst_used" not in (builder.tree.source / HEADER).read_text(encoding="utf-8"):
        pytest.skip(f"the bridge of {builder.kernel.release} has no key of its own: br_mst_used came with 5.18")
    gone = "ip link del kpt0 2> /dev/null; ip link del kpt1 2> /dev/null; sysctl -q kernel.task_delayacct=0; "
    gone += "modprobe -r bridge 2> /dev/null || ! grep -q '^bridge ' /proc/modules"
    host.run(gone)
    yield host
    host.run(gone)


def said(host: Host) -> list[str]:
    """What the patched br_set_state() says when a port comes up: once for each state that it enters."""
    log = host.run(
        "ip link set kpt1 down; dmesg --read-clear > /dev/null; ip link set kpt1 up; "
        "for i in $(seq 50); do dmesg | grep -q 'kpt1.*entered forwarding state' && break; sleep 0.1; done; dmesg"
    )
    assert "entered forwarding state" in log
    return sorted({line[line.index("kpatch: ") :] for line in log.splitlines() if "kpatch: " in line})


@pytest.mark.parametrize(("backend", "switch"), [("kpatch", "kernel"), ("livepatch", "thread")])
def test_a_static_branch_goes_by_its_key(bridge: Host, core: Builder, backend: str, switch: str) -> None:
    include = '#include "br_private.h"\n'
    changes = {include: f"#include <linux/delayacct.h>\n{include}", "\tp->state = state;\n": SAYS}
    result = core.patch(f"static-branch-{backend}", core.changes(FILE, changes), switch, backend)
    assert result.manifest is not None
    assert result.path is not None
    assert [function["name"] for function in result.manifest["functions"]] == ["br_set_state"]
    bridge.send(result.path.glob("*.ko"))
    bridge.load(result.manifest["module"])
    bridge.run(
        "modprobe bridge && ip link add kpt0 type bridge vlan_default_pvid 0 && "
        "ip link add kpt1 type veth peer name kpt2 && ip link set kpt1 master kpt0 && "
        "ip link set kpt0 up && ip link set kpt2 up"
    )
    assert said(bridge) == []
    bridge.run(SET_MST.format(value=1))
    assert said(bridge) == MST
    bridge.run("sysctl -q kernel.task_delayacct=1")
    assert said(bridge) == [*MST, *DELAYS]
    bridge.run(SET_MST.format(value=0))
    assert said(bridge) == DELAYS
    bridge.run("sysctl -q kernel.task_delayacct=0")
    assert said(bridge) == []
