# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab with one machine for each kernel series in SERIES; every test begins there with the core module alone."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import known
from builder import Builder, DebugBuilder, identify, own_source
from host import Host

SERIES = os.environ.get("SERIES", "6.1,6.12").split(",")
CACHE = Path(os.environ.get("KPATCH_CACHE") or Path.home() / ".cache/kpatch.fleet")
# Two runs at once need two labs.
LAB = os.environ.get("KPATCH_LAB", "kernel-tests")
CPUS = int(os.environ.get("CPUS", "1"))
MEMORY = int(os.environ.get("MEMORY", "384"))
# What to append to the kernels' command lines: preempt=full, say.
APPEND = os.environ.get("APPEND", "")
# A kernel that scripts/own-kernel has built; SERIES then names it, 'own' or 'debug'.
OWN_KERNEL = os.environ.get("KPATCH_OWN_KERNEL")
ROLE = Path(__file__).parents[2] / "roles/lab"


def _lab(state: str) -> None:
    hosts = [{"name": _machine(series), "kernel": series, "append": APPEND} for series in SERIES]
    lab = {"lab_name": LAB, "lab_state": state, "lab_hosts": hosts, "lab_kernels": _kernels()}
    variables = {**lab, "lab_cpus": CPUS, "lab_memory": MEMORY, "kpatch_cache": str(CACHE)}
    command = ["ansible-playbook", "-i", "localhost,", "kpatch.fleet.lab", "-e", json.dumps(variables)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _kernels() -> dict[str, dict[str, str]]:
    """Those that the lab knows, and the one that is ours under its name in SERIES."""
    known = yaml.safe_load((ROLE / "defaults/main.yml").read_text(encoding="utf-8"))["lab_kernels"]
    return {**known, **({SERIES[0]: {"suite": "bookworm", "vmlinuz": f"{OWN_KERNEL}/vmlinuz"}} if OWN_KERNEL else {})}


def _machine(series: str) -> str:
    return "kernel-" + series.replace(".", "-")


@pytest.fixture(scope="session")
def lab() -> Iterator[dict[str, dict[str, object]]]:
    """The machines as their inventory has them; they go away with the last test."""
    # A machine that an earlier run may have broken is not one to begin with.
    _lab("absent")
    try:
        _lab("present")
        inventory = yaml.safe_load((CACHE / "lab" / LAB / "inventory.yml").read_text(encoding="utf-8"))
        yield inventory["all"]["children"]["kpatch_fleet"]["hosts"]
    finally:
        _lab("absent")


@pytest.fixture(scope="session", params=SERIES)
def booted(
    request: pytest.FixtureRequest, lab: dict[str, dict[str, object]], tmp_path_factory: pytest.TempPathFactory
) -> Host:
    """The booted kernel of one series."""
    name = _machine(request.param)
    return Host(name, lab[name], tmp_path_factory.mktemp("ssh"))


@pytest.fixture(scope="session")
def builder(booted: Host, tmp_path_factory: pytest.TempPathFactory) -> Builder:
    """The builder for that kernel, with an empty store."""
    if not OWN_KERNEL:
        return Builder(identify(booted), CACHE, tmp_path_factory.mktemp("store"))
    if SERIES == ["debug"]:
        return DebugBuilder(Path(OWN_KERNEL))
    kernel = identify(booted)
    source = own_source(Path(OWN_KERNEL), kernel.release)
    booted.install(known(source.modules, "own.config has modules"), kernel.release)
    return Builder(kernel._replace(source=source), CACHE, tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="session")
def core(builder: Builder) -> Builder:
    """The same, with the core module in its store."""
    builder.core()
    return builder


@pytest.fixture(scope="session")
def modules(builder: Builder, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The modules that are compiled for that kernel."""
    return builder.modules(tmp_path_factory.mktemp("kmod"))


@pytest.fixture(scope="session")
def machine(booted: Host, modules: list[Path]) -> Iterator[Host]:
    """The booted kernel, with these modules."""
    booted.send(modules)
    booted.complaints()
    yield booted
    assert booted.lost_memory() == ""


@pytest.fixture
def host(machine: Host) -> Iterator[Host]:
    """The kernel with the core module and nothing else; afterwards it must have had nothing to complain of."""
    machine.load("kpatch")
    yield machine
    machine.clean()
    assert machine.complaints() == ""


@pytest.fixture
def target(host: Host) -> Host:
    """The same, with the target module loaded."""
    host.load("kpt_target")
    return host
