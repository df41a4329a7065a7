# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a plan and a ledger tell of times, stop windows, taint and coverage; and what they don't tell, and why."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timezone
from typing import Any

from ansible_collections.kpatch.fleet.plugins.module_utils.manifest import module_name
from ansible_collections.kpatch.fleet.plugins.plugin_utils.ledger import Ledger

Plan = dict[str, Any]
Host = dict[str, Any]
# What the fields are that reports are made of; a later version may add others.
_FIELDS: dict[str, tuple[type, ...]] = {
    "time": (str,),
    "host": (str,),
    "batch": (int, type(None)),
    "open": (bool,),
    "reasons": (list,),
    "runs": (dict, type(None)),
    "state": (str,),
    "reason": (str,),
    "verdict": (str,),
    "hosts": (list,),
    "vanished": (list,),
}
# What an entry of its kind can't do without.
_NEEDED = {
    "gate": ("open", "reasons"),
    "begin": ("host",),
    "host": ("host", "state", "reason"),
    "look": ("host", "state"),
    "verdict": ("verdict", "reasons"),
    "resume": ("hosts", "vanished"),
    "undone": ("host", "state", "reason"),
}


def sound(ledger: Ledger) -> Ledger:
    """The ledger without entries that hold something else than a ledger's; each of them is named as damage."""
    entries: list[dict[str, Any]] = []
    damaged = list(ledger.damaged)
    for number, entry in enumerate(ledger.entries, start=1):
        wrong = [key for key, kinds in _FIELDS.items() if key in entry and not isinstance(entry[key], kinds)]
        wrong += [key for key in ("time", *_NEEDED.get(entry["event"], ())) if key not in entry]
        if wrong:
            damaged.append(f"entry {number} of the ledger: its {', '.join(wrong)} is not what a ledger has")
        else:
            entries.append(entry)
    return Ledger(entries, damaged)


def enrich(plan: Plan, ledger: Ledger, hosts: list[Host]) -> list[Host]:
    """Each host with when it was changed, for how long, and what its kernel said before and after."""
    begun = {entry["host"]: entry for entry in ledger.entries if entry["event"] == "begin"}
    ended = ledger.outcomes()
    seen = {**ended, **ledger.undone()}
    return [
        {
            **host,
            **_times(begun.get(host["host"]), ended.get(host["host"])),
            **_switched(begun.get(host["host"]), ended.get(host["host"])),
            **_kernel(plan, seen, host["host"]),
        }
        for host in hosts
    ]


def timeline(plan: Plan, ledger: Ledger) -> list[dict[str, Any]]:
    """Each batch with its gate, its first and its last entry; times are None where the ledger has none."""
    return [_batch(number, names, ledger) for number, names in enumerate(plan["batches"], start=1)]


def coverage(plan: Plan, hosts: list[Host]) -> dict[str, Any]:
    """How far the hosts of each kernel and of each patch are."""
    return {
        "kernels": [_kernel_share(plan, release, hosts) for release in _releases(hosts)],
        "patches": [_patch_share(plan, name, hosts) for name in plan["patches"]],
    }


def fleet(plan: Plan, hosts: list[Host]) -> list[dict[str, Any]]:
    """What runs where: the hosts that run the very same are one entry, the largest first."""
    groups: dict[str, dict[str, Any]] = {}
    for host in hosts:
        known = plan["kernels"].get(host["kernel"], {}).get("artifacts", {}).values()
        built = {(artifact["srcversion"], artifact["build_id"]) for artifact in known}
        modules = [_module(part, built) for part in parts(host)]
        others = [str(patch["module"]) for patch in (host.get("runs") or {}).get("livepatches") or []]
        what = {"kernel": host["kernel"], "read": bool(host.get("runs")), "modules": modules, "others": others}
        groups.setdefault(repr(what), {**what, "hosts": []})["hosts"].append(host["host"])
    return sorted(groups.values(), key=lambda group: -len(group["hosts"]))


def _module(part: dict[str, Any], built: set[tuple[Any, Any]]) -> dict[str, Any]:
    """One module that is loaded; *planned* says whether it is, by its digests, an artifact of the plan."""
    return {
        "module": part["module"],
        "build_id": part.get("build_id"),
        "enabled": part.get("enabled", True),
        "planned": (part.get("srcversion"), part.get("build_id")) in built,
    }


def log(ledger: Ledger) -> list[dict[str, str]]:
    """The entries of the ledger, each in one line for people; kinds that this version doesn't know are shown, too."""
    return [{"time": str(entry.get("time", "")), "event": entry["event"], **_said(entry)} for entry in ledger.entries]


def missing(plan: Plan, ledger: Ledger, hosts: list[Host], pending: list[int]) -> list[str]:
    """What the report can't tell, in sentences."""
    notes = list(ledger.damaged)
    if not ledger.entries:
        notes.append("the ledger has no entry: it is lost, or the rollout was ended before its first step")
    if unknown := sum(host["state"] == "unknown" for host in hosts):
        notes.append(f"{unknown} of the hosts began and have no outcome: start the playbook again, it looks at them")
    if pending and not any(gate["open"] is False for gate in _gates(ledger)):
        last = ledger.entries[-1].get("time", "an unknown time") if ledger.entries else plan["created"]
        notes.append(
            f"batches {', '.join(map(str, pending))} have no outcome yet (last entry {last}): the rollout is still"
            " under way, or its controller was ended; make this report again later"
        )
    if silent := [host["host"] for host in hosts if host["end"] and host["runs"] is None and host["state"] != "lost"]:
        notes.append(f"no stop windows and no taint of {_some(silent)}: the ledger is from an older version")
    if wrong := sum(when(entry.get("time")) is None for entry in ledger.entries):
        notes.append(f"{wrong} entries of the ledger have no time that can be read: they are in no plot")
    return notes


def parts(host: Host) -> list[dict[str, Any]]:
    """The modules of ours that the host ran when it was last read, the core module first."""
    runs = host.get("runs") or {}
    return [*([runs["core"]] if runs.get("core") else []), *(runs.get("patches") or [])]


def _times(begin: dict[str, Any] | None, end: dict[str, Any] | None) -> dict[str, Any]:
    began, ended = (when((entry or {}).get("time")) for entry in (begin, end))
    took = (ended - began).total_seconds() if began and ended and ended >= began else None
    return {
        "begin": began.isoformat() if began else None,
        "end": ended.isoformat() if ended else None,
        "seconds": took,
    }


def _kernel(plan: Plan, seen: dict[str, Any], name: str) -> dict[str, Any]:
    planned = plan["hosts"][name]
    runs = seen[name].get("runs") if name in seen else planned.get("runs")
    return {
        "runs": runs,
        "taint_before": "".join(planned.get("taint") or ""),
        "taint_after": (runs or {}).get("taint"),
    }


def _switched(begin: dict[str, Any] | None, end: dict[str, Any] | None) -> dict[str, Any]:
    """What the change came to, and the stop windows of it, whatever has become of the host since."""
    runs = ((end or {}).get("runs") or {}) if begin else {}
    windows = [patch["window_ns"] for patch in runs.get("patches") or [] if patch.get("window_ns")]
    return {"outcome": end["state"] if begin and end else None, "window_ns": max(windows, default=None)}


def _batch(number: int, names: list[str], ledger: Ledger) -> dict[str, Any]:
    gates = [gate for gate in _gates(ledger) if gate.get("batch") == number]
    entries = [entry for entry in ledger.entries if entry["event"] in ("begin", "host") and entry["host"] in names]
    times = sorted(moment for entry in entries if (moment := when(entry.get("time"))))
    gate = gates[-1] if gates else {}
    verdicts = [entry for entry in ledger.entries if entry["event"] == "verdict" and entry.get("batch") == number]
    states = Counter(entry["state"] for host, entry in ledger.outcomes().items() if host in names)
    undone = [entry for host, entry in ledger.undone().items() if host in names]
    back = [moment for entry in undone if (moment := when(entry.get("time")))]
    return {
        "number": number,
        "hosts": len(names),
        "gate": None if not gate else "open" if gate["open"] else "shut",
        "gate_time": gate.get("time"),
        "reasons": [str(reason) for reason in gate.get("reasons") or []],
        "verdict": verdicts[-1]["verdict"] if verdicts else None,
        "begin": times[0].isoformat() if times else None,
        "end": times[-1].isoformat() if times else None,
        "judged": verdicts[-1]["time"] if verdicts and when(verdicts[-1]["time"]) else None,
        "states": dict(states),
        "undone": max(back).isoformat() if back else None,
        "undone_states": dict(Counter(entry["state"] for entry in undone)),
    }


def _gates(ledger: Ledger) -> list[dict[str, Any]]:
    return [entry for entry in ledger.entries if entry["event"] == "gate" and isinstance(entry.get("open"), bool)]


def _releases(hosts: list[Host]) -> list[str]:
    return sorted({host["kernel"] for host in hosts})


def _kernel_share(plan: Plan, release: str, hosts: list[Host]) -> dict[str, Any]:
    mine = [host for host in hosts if host["kernel"] == release]
    done = sum(host["state"] == plan["want"] for host in mine)
    built = sorted(plan["kernels"].get(release, {}).get("artifacts", {}))
    return {"kernel": release, "hosts": len(mine), "done": done, "artifacts": built}


def _patch_share(plan: Plan, name: str, hosts: list[Host]) -> dict[str, Any]:
    module = module_name(name)
    known = [host for host in hosts if host.get("runs")]
    on = [host for host in known if any(_is_on(part, module) for part in parts(host))]
    built = sorted(release for release, kernel in plan["kernels"].items() if name in kernel["artifacts"])
    return {"patch": name, "hosts": len(hosts), "known": len(known), "on": len(on), "kernels": built}


def _is_on(part: dict[str, Any], module: str) -> bool:
    return bool(part["module"] == module and part.get("enabled"))


def _said(entry: dict[str, Any]) -> dict[str, str]:
    told = entry.get("reason") or entry.get("failure") or "; ".join(map(str, entry.get("reasons") or []))
    state = entry.get("state") or entry.get("verdict") or {True: "open", False: "shut", None: ""}[entry.get("open")]
    batch = entry.get("batch")
    return {
        "host": str(entry.get("host") or ""),
        "batch": "" if batch is None else str(batch),
        "text": ": ".join(str(word) for word in (state, told) if word),
    }


def when(text: Any) -> datetime | None:
    """A time of plan or ledger in UTC, or None if it is none."""
    try:
        found = datetime.fromisoformat(str(text).replace("Z", "+00:00"))
    except ValueError:
        return None
    return found.astimezone(timezone.utc) if found.tzinfo else None


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
