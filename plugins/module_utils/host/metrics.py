# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host's kernel says, as metrics in Prometheus' text format; run on hosts by a timer, without Ansible."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from ansible_collections.kpatch.fleet.plugins.module_utils.host.errors import HostError
from ansible_collections.kpatch.fleet.plugins.module_utils.host.state import read_host

Sample = tuple[dict[str, Any], float]
_HELP = {
    "kpatch_kernel_info": "The running kernel; always 1.",
    "kpatch_kernel_tainted": "The taint mask of the running kernel.",
    "kpatch_core_loaded": "Whether the core module is loaded.",
    "kpatch_patch_enabled": "Whether the functions of a patch module of kpatch.fleet are in use.",
    "kpatch_patch_transition": "Whether a switch of the patch is under way.",
    "kpatch_patch_stop_window_seconds": "How long the machine was stopped for the last switch of the patch.",
    "kpatch_livepatch_enabled": "Whether a patch of the kernel's own livepatch is enabled.",
    "kpatch_livepatch_transition": "Whether a transition of that patch is under way.",
    "kpatch_read_ok": "Whether the kernel could be read; if 0, nothing else is told.",
    "kpatch_read_time_seconds": "When this was read, in seconds since 1970.",
}


def text(root: Path, now: float) -> str:
    """All metrics of the host at *root*."""
    try:
        samples = _samples(read_host(root))
        told: dict[str, list[Sample]] = {**samples, "kpatch_read_ok": [({}, 1)]}
    except HostError:
        told = {"kpatch_read_ok": [({}, 0)]}
    told["kpatch_read_time_seconds"] = [({}, round(now, 3))]
    return "".join(_metric(name, told[name]) for name in _HELP if told.get(name))


def write(path: Path, content: str) -> None:
    """Put *content* at *path* by rename: the exporter never reads half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(content, encoding="utf-8")
    temporary.chmod(0o644)
    temporary.replace(path)


def main() -> int:
    """Write to the file that is named as the only argument, or to standard output."""
    content = text(Path("/"), time.time())
    if len(sys.argv) != 2:
        sys.stdout.write(content)
        return 0
    try:
        write(Path(sys.argv[1]), content)
    except OSError as error:
        sys.stderr.write(f"{sys.argv[1]}: the metrics can't be written: {error.strerror}\n")
        return 1
    return 0


def _samples(host: dict[str, Any]) -> dict[str, list[Sample]]:
    kernel, patches, livepatches = host["kernel"], host["patches"], host["livepatches"]
    return {
        "kpatch_kernel_info": [({"release": kernel["release"], "build_id": kernel["build_id"]}, 1)],
        "kpatch_kernel_tainted": [({}, kernel["taint"]["value"])],
        "kpatch_core_loaded": [({}, float(bool(host["core"])))],
        "kpatch_patch_enabled": [(_patch(one), float(one["enabled"])) for one in patches],
        "kpatch_patch_transition": [(_patch(one), float(one["transition"])) for one in patches],
        "kpatch_patch_stop_window_seconds": [
            (_patch(one), one["window_ns"] / 1e9) for one in patches if one.get("window_ns") is not None
        ],
        "kpatch_livepatch_enabled": [({"patch": one["module"]}, float(one["enabled"])) for one in livepatches],
        "kpatch_livepatch_transition": [({"patch": one["module"]}, float(one["transition"])) for one in livepatches],
    }


def _patch(patch: dict[str, Any]) -> dict[str, Any]:
    return {"patch": patch["module"], "build_id": patch["build_id"]}


def _metric(name: str, samples: list[Sample]) -> str:
    head = f"# HELP {name} {_HELP[name]}\n# TYPE {name} gauge\n"
    return head + "".join(f"{name}{_labels(labels)} {value!r}\n" for labels, value in samples)


def _labels(labels: dict[str, Any]) -> str:
    inside = ",".join(f'{key}="{_escape(str(value or ""))}"' for key, value in labels.items())
    return f"{{{inside}}}" if inside else ""


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


if __name__ == "__main__":
    raise SystemExit(main())
