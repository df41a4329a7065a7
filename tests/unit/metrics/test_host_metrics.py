# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prometheus takes what a host writes, and the program that writes it runs without Ansible."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils.host import metrics
from ansible_collections.kpatch.fleet.plugins.module_utils.host.program import program
from prometheus_client.parser import text_string_to_metric_families


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A kernel with one of our patches, and one of the kernel's own."""
    files = {
        "proc/sys/kernel/osrelease": "6.1.0-56",
        "proc/sys/kernel/tainted": "45056",
        "sys/module/kpatch/initstate": "live",
        "sys/kernel/kpatch/abi": "2",
        "sys/module/kpatch_fix/initstate": "live",
        "sys/kernel/kpatch/patches/kpatch_fix/enabled": "1",
        "sys/kernel/kpatch/patches/kpatch_fix/transition": "0",
        "sys/kernel/kpatch/patches/kpatch_fix/window_ns": "450000",
        'sys/kernel/livepatch/ot\\h"er/enabled': "1",
        'sys/kernel/livepatch/ot\\h"er/transition': "1",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    return tmp_path


def samples(text: str) -> dict[str, tuple[dict[str, str], float]]:
    found = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {sample.name: (sample.labels, sample.value) for sample in found}


def test_metrics_are_what_the_kernel_says(host: Path) -> None:
    found = samples(metrics.text(host, 12.0))
    assert found["kpatch_kernel_tainted"] == ({}, 45056)
    assert found["kpatch_core_loaded"] == ({}, 1)
    assert found["kpatch_patch_enabled"] == ({"patch": "kpatch_fix", "build_id": ""}, 1)
    assert found["kpatch_patch_stop_window_seconds"][1] == 0.00045
    assert found["kpatch_livepatch_transition"] == ({"patch": 'ot\\h"er'}, 1)
    assert (found["kpatch_read_ok"][1], found["kpatch_read_time_seconds"][1]) == (1, 12)


def test_kernel_that_can_not_be_read_says_so_and_nothing_else(tmp_path: Path) -> None:
    assert samples(metrics.text(tmp_path, 1.0)).keys() == {"kpatch_read_ok", "kpatch_read_time_seconds"}
    assert samples(metrics.text(tmp_path, 1.0))["kpatch_read_ok"][1] == 0


def test_program_runs_with_nothing_but_python_and_writes_by_rename(tmp_path: Path) -> None:
    path, told = tmp_path / "metrics", tmp_path / "kpatch.prom"
    path.write_bytes(program("metrics"))
    path.chmod(0o755)
    told.symlink_to("/dev/full")
    command = ["/usr/bin/env", "-i", "PATH=/usr/bin:/bin", str(path), str(told)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    assert (done.returncode, done.stderr) == (0, "")
    assert "kpatch_read_ok" in samples(told.read_text())
    assert not told.is_symlink()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["kpatch.prom", "metrics"]


def test_program_is_the_same_bytes_each_time() -> None:
    assert program("metrics") == program("metrics")


def test_place_that_can_not_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["metrics", str(tmp_path / "missing/kpatch.prom")])
    assert metrics.main() == 1
    assert "can't be written: No such file" in capsys.readouterr().err
