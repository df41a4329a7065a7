# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""If this breaks, a host is left in a state that nobody wanted, or its report is not true."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils.host import transition
from ansible_collections.kpatch.fleet.plugins.module_utils.host.errors import HostError
from ansible_collections.kpatch.fleet.plugins.module_utils.host.state import read_host
from fake_host import elf

STAGED = "var/lib/kpatch.fleet/6.1.0-56-cloud-amd64"


def refused(host: Any, reason: str, *arguments: Any, **options: Any) -> str:
    """Run into an error of *reason*; its message. The host is as it was, byte for byte."""
    before = host.tree()
    with pytest.raises(HostError) as caught:
        host.transition(*arguments, **options).reach()
    assert caught.value.reason == reason
    assert host.tree() == before
    return str(caught.value)


@pytest.mark.parametrize(
    ("earlier", "wanted"),
    [
        (None, "enabled"),
        (None, "disabled"),
        (None, "absent"),
        ("enabled", "enabled"),
        ("enabled", "disabled"),
        ("enabled", "absent"),
        ("disabled", "enabled"),
        ("disabled", "disabled"),
        ("disabled", "absent"),
        ("other", "enabled"),
    ],
)
def test_check_mode_foretells_what_happens(ready: Any, earlier: str | None, wanted: str) -> None:
    artifact = ready.artifact("a")
    if earlier:
        ready.transition("kpatch_a", "enabled", *(ready.artifact("a", "0") if earlier == "other" else artifact)).reach()
    if earlier == "disabled":
        ready.transition("kpatch_a", "disabled").reach()
    arguments = ("kpatch_a", wanted, *(artifact if wanted == "enabled" else ()))
    tree = ready.tree()
    foreseen = ready.transition(*arguments).foresee()
    assert ready.tree() == tree
    assert ready.transition(*arguments).reach() == foreseen
    assert ready.transition(*arguments).reach() == (False, foreseen[1])
    assert ready.transition(*arguments).foresee() == (False, foreseen[1])


def test_core_loads_and_goes_without_a_trace(host: Any) -> None:
    empty = host.tree()
    artifact = host.artifact("kpatch")
    assert host.transition("kpatch", "loaded", *artifact).reach()[0]
    assert (host.root / STAGED / "kpatch.ko").read_bytes() == artifact[1].read_bytes()
    assert host.transition("kpatch", "absent").reach()[0]
    assert host.tree() == empty


def test_core_stays_while_patches_are_registered(ready: Any) -> None:
    ready.transition("kpatch_a", "enabled", *ready.artifact("a")).reach()
    assert "kpatch_a" in refused(ready, "core-in-use", "kpatch", "absent")
    refused(ready, "core-in-use", "kpatch", "loaded", *ready.artifact("kpatch", "2"))


def test_another_build_is_replaced(ready: Any) -> None:
    ready.transition("kpatch_a", "enabled", *ready.artifact("a", "1")).reach()
    ready.calls.clear()
    new = ready.artifact("a", "2")
    way = ready.transition("kpatch_a", "enabled", *new)
    assert way.before["identity"] == "different"
    changed, after = way.reach()
    assert changed
    assert (after["identity"], after["build_id"]) == ("wanted", new[0]["build_id"])
    assert ready.calls == ["write kpatch_a 0", "unload kpatch_a", "load kpatch_a SRC2"]
    assert (ready.root / STAGED / "kpatch_a.ko").read_bytes() == new[1].read_bytes()


@pytest.mark.parametrize("enabled", [True, False])
def test_the_old_build_comes_back_if_the_new_one_is_refused(ready: Any, enabled: bool) -> None:
    ready.transition("kpatch_a", "enabled", *ready.artifact("a", "1")).reach()
    if not enabled:
        ready.transition("kpatch_a", "disabled").reach()
    ready.refuse["load", "SRC2"] = [errno.EINVAL]
    said = refused(ready, "load-failed", "kpatch_a", "enabled", *ready.artifact("a", "2"))
    assert "The one that ran before is back" in said
    assert read_host(ready.root)["patches"][0]["enabled"] is enabled


def test_it_says_so_if_the_old_build_can_not_come_back(ready: Any) -> None:
    ready.transition("kpatch_a", "enabled", *ready.artifact("a", "1")).reach()
    (ready.root / STAGED / "kpatch_a.ko").write_bytes(b"changed")
    ready.refuse["load", "SRC2"] = [errno.EINVAL]
    with pytest.raises(HostError, match="could not be made as it was"):
        ready.transition("kpatch_a", "enabled", *ready.artifact("a", "2")).reach()


def test_only_what_ran_before_is_put_back(ready: Any) -> None:
    ready.transition("kpatch_a", "enabled", *ready.artifact("a", "1")).reach()
    manifest, src = ready.artifact("a", "3")
    (ready.root / STAGED / "kpatch_a.ko").write_bytes(src.read_bytes())
    (ready.root / STAGED / "kpatch_a.json").write_text(json.dumps(manifest))
    ready.refuse["load", "SRC2"] = [errno.EINVAL]
    with pytest.raises(HostError, match="not the one that ran before"):
        ready.transition("kpatch_a", "enabled", *ready.artifact("a", "2")).reach()


def test_removing_removes_what_an_interrupted_run_left(ready: Any) -> None:
    ready.transition("kpatch_a", "enabled", *ready.artifact("a")).reach()
    (ready.root / STAGED / ".kpatch_a.ko.new").write_bytes(b"half")
    ready.transition("kpatch_a", "absent").reach()
    left = sorted(path.name for path in (ready.root / STAGED).iterdir())
    assert left == ["enabled.json", "kpatch.json", "kpatch.ko"]


def test_busy_names_the_task_and_the_function(ready: Any) -> None:
    ready.refuse["load", "SRC1"] = [errno.EBUSY]
    ready.refusal = "task cat/812 is in meminfo_proc_show"
    said = refused(ready, "busy", "kpatch_a", "enabled", *ready.artifact("a"))
    assert "cat/812 is in meminfo_proc_show" in said
    assert "tried 1 times" in said


def test_busy_is_tried_again(ready: Any) -> None:
    ready.refuse["load", "SRC1"] = [errno.EBUSY, errno.EBUSY, 0]
    assert ready.transition("kpatch_a", "enabled", *ready.artifact("a"), timeout=5).reach()[1]["state"] == "enabled"
    assert ready.calls == ["load kpatch_a SRC1"] * 3


def test_an_old_refusal_is_not_taken_for_the_reason(ready: Any) -> None:
    ready.say("task old/1 is in old_function")
    ready.refuse["load", "SRC1"] = [errno.ENOEXEC]
    said = refused(ready, "load-failed", "kpatch_a", "enabled", *ready.artifact("a"))
    assert "old_function" not in said


def test_busy_when_disabling_leaves_it_enabled(ready: Any) -> None:
    ready.transition("kpatch_a", "enabled", *ready.artifact("a")).reach()
    ready.refuse["write", "kpatch_a"] = [errno.EBUSY]
    ready.refusal = "task sleep/9 is in new_show"
    for wanted in ("disabled", "absent"):
        assert "sleep/9" in refused(ready, "busy", "kpatch_a", wanted)


def test_a_stalled_switch_is_reversed(ready: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = ready.artifact("a")
    ready.transition("kpatch_a", "enabled", *artifact).reach()
    ready.transition("kpatch_a", "disabled").reach()
    stalled = ready.root / "sys/kernel/kpatch/patches/kpatch_a/transition"
    write = ready.write

    def slow(path: Path, value: bytes) -> None:
        write(path, value)
        stalled.write_text("1\n" if value == b"1" else "0\n")

    monkeypatch.setattr(transition, "_write", slow)
    refused(ready, "stalled", "kpatch_a", "enabled", *artifact)
    assert read_host(ready.root)["patches"][0]["enabled"] is False


@pytest.mark.parametrize(("timeout", "written"), [(7, "7000"), (0.0001, "1"), (1e9, "86400000"), (0, "30000")])
def test_the_core_module_is_told_the_deadline(ready: Any, timeout: float, written: str) -> None:
    deadline = ready.root / "sys/kernel/kpatch/deadline_ms"
    deadline.write_text("30000\n")
    ready.transition("kpatch_a", "enabled", *ready.artifact("a"), timeout=timeout).reach()
    assert deadline.read_text().strip() == written


def test_a_module_in_use_is_named_with_its_user(ready: Any) -> None:
    ready.refuse["unload", "kpatch"] = [errno.EWOULDBLOCK]
    (ready.root / "sys/module/kpatch/holders/other").mkdir()
    assert "used by other" in refused(ready, "busy", "kpatch", "absent")


def test_core_missing(host: Any) -> None:
    artifact = host.artifact("a")
    refused(host, "core-missing", "kpatch_a", "enabled", *artifact)
    way = host.transition("kpatch_a", "enabled", *artifact)
    assert way.foresee()[0]
    assert "not loaded" in way.warnings[0]


def test_core_of_another_interface(ready: Any) -> None:
    refused(ready, "core-mismatch", "kpatch_a", "enabled", *ready.artifact("a", abi=2))


@pytest.mark.parametrize("key", ["release", "build_id"])
def test_another_kernel(ready: Any, key: str) -> None:
    manifest, src = ready.artifact("a")
    manifest["kernel"][key] = "abcd"
    assert "abcd" in refused(ready, "wrong-kernel", "kpatch_a", "enabled", manifest, src)


def test_another_vermagic(ready: Any) -> None:
    artifact = ready.artifact("a", image=elf("6.1.0-55-cloud-amd64 SMP "))
    assert "6.1.0-55" in refused(ready, "wrong-vermagic", "kpatch_a", "enabled", *artifact)


def test_no_elf_file(ready: Any) -> None:
    refused(ready, "wrong-vermagic", "kpatch_a", "enabled", *ready.artifact("a", image=b"\x7fELF" * 50))


def test_one_changed_byte(ready: Any) -> None:
    manifest, src = ready.artifact("a")
    src.write_bytes(src.read_bytes().replace(b"name=x", b"name=y"))
    assert manifest["sha256"] in refused(ready, "tampered", "kpatch_a", "enabled", manifest, src)
    assert ready.calls == []


def test_a_byte_changed_after_it_was_staged(ready: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What counts is what lies behind the descriptor that the kernel gets."""
    artifact = ready.artifact("a")
    way = ready.transition("kpatch_a", "enabled", *artifact)
    write = way.staging.write

    def tamper(image: bytes, manifest: dict[str, Any], signature: str | None) -> None:
        write(image, manifest, signature)
        (ready.root / STAGED / ".kpatch_a.ko.new").write_bytes(image.replace(b"name=x", b"name=y"))

    monkeypatch.setattr(way.staging, "write", tamper)
    with pytest.raises(HostError) as caught:
        way.reach()
    assert caught.value.reason == "tampered"
    assert ready.calls == []


@pytest.mark.parametrize(
    ("path", "text", "reason"),
    [
        ("sys/kernel/security/lockdown", "none [integrity] confidentiality", "lockdown"),
        ("sys/module/module/parameters/sig_enforce", "Y", "signature"),
        ("proc/sys/kernel/modules_disabled", "1", "modules-disabled"),
    ],
)
def test_a_kernel_that_takes_no_module(ready: Any, path: str, text: str, reason: str) -> None:
    (ready.root / path).parent.mkdir(parents=True, exist_ok=True)
    (ready.root / path).write_text(text + "\n")
    refused(ready, reason, "kpatch_a", "enabled", *ready.artifact("a"))
    assert ready.calls == []


def test_a_signed_module_passes_where_signatures_are_wanted(ready: Any) -> None:
    (ready.root / "sys/module/module/parameters").mkdir(parents=True)
    (ready.root / "sys/module/module/parameters/sig_enforce").write_text("Y\n")
    assert ready.transition("kpatch_a", "enabled", *ready.artifact("a", image=elf(signed=True))).reach()[0]


KEYS = """\
12b0aff4 I------     1 perm 1f030000     0     0 asymmetri Debian Secure Boot CA: 6ccece7e: X509.rsa 4cec2e1d []
2fb0aff4 I--Q---     4 perm 1f3f0000     0 65534 keyring   _uid_ses.0: 1
"""


@pytest.mark.parametrize(
    ("keys", "key_id", "taken"),
    [(KEYS, "6ccece7e", True), (KEYS, "abcd", False), ("", "abcd", True)],
    ids=["known", "unknown", "keyrings that show nothing"],
)
def test_a_signature_by_a_key_that_the_kernel_does_not_know(ready: Any, keys: str, key_id: str, taken: bool) -> None:
    (ready.root / "sys/module/module/parameters").mkdir(parents=True)
    (ready.root / "sys/module/module/parameters/sig_enforce").write_text("Y\n")
    (ready.root / "proc/keys").write_text(keys)
    artifact = ready.artifact("a", image=elf(signed=True), signer={"subject": "CN = mine", "key_id": key_id})
    if taken:
        assert ready.transition("kpatch_a", "enabled", *artifact).reach()[0]
        return
    assert "none of the kernel's keyrings" in refused(ready, "signature", "kpatch_a", "enabled", *artifact)
    assert ready.calls == []


def test_a_foreign_livepatch_on_the_function(ready: Any) -> None:
    ready.show_livepatch("livepatch_x", "meminfo_proc_show")
    assert "livepatch_x" in refused(ready, "foreign-patch", "kpatch_a", "enabled", *ready.artifact("a"))


def test_a_foreign_redirection_is_not_waited_for(ready: Any) -> None:
    artifact = ready.artifact("a")
    ready.refuse["load", "SRC1"] = ready.refuse["write", "kpatch_a"] = [errno.EBUSY, 0]
    ready.refusal = "function meminfo_proc_show is already redirected by someone else"
    refused(ready, "foreign-patch", "kpatch_a", "enabled", *artifact, timeout=5)


@pytest.mark.parametrize(
    ("status", "reason", "words"),
    [
        ({"f_bavail": 1}, "no-space", "4096 bytes are free"),
        ({"f_favail": 0}, "no-space", "inodes"),
        ({"f_flag": 1}, "read-only", "mount it read-write"),
    ],
)
def test_no_room(ready: Any, monkeypatch: pytest.MonkeyPatch, status: dict[str, int], reason: str, words: str) -> None:
    plenty = {"f_flag": 0, "f_bavail": 1000, "f_frsize": 4096, "f_files": 100, "f_favail": 100}
    monkeypatch.setattr("os.statvfs", lambda path: SimpleNamespace(**{**plenty, **status}))
    assert words in refused(ready, reason, "kpatch_a", "enabled", *ready.artifact("a"))
    with pytest.raises(HostError, match=words):
        ready.transition("kpatch_a", "enabled", *ready.artifact("a")).foresee()


def test_space_that_runs_out_leaves_no_half_file(ready: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    refused(ready, "no-space", "kpatch_a", "enabled", *ready.artifact("a"))


def test_what_the_kernel_shows_has_to_be_the_artifact(ready: Any) -> None:
    artifact = ready.artifact("a", shown={"srcversion": "OTHER", "build_id": "ef" * 20})
    refused(ready, "wrong-identity", "kpatch_a", "enabled", *artifact)


def test_the_old_build_comes_back_if_the_new_one_shows_another_identity(ready: Any) -> None:
    ready.transition("kpatch_a", "enabled", *ready.artifact("a", "1")).reach()
    artifact = ready.artifact("a", "2", shown={"srcversion": "OTHER", "build_id": "ef" * 20})
    assert "before is back" in refused(ready, "wrong-identity", "kpatch_a", "enabled", *artifact)


def test_a_patch_that_does_not_register_goes_again(ready: Any) -> None:
    refused(ready, "load-failed", "kpatch_a", "enabled", *ready.artifact("a", functions=[]))


def test_a_core_module_of_another_interface_than_its_manifest_goes_again(host: Any) -> None:
    manifest, src = host.artifact("kpatch")
    manifest["shown"] = {**manifest, "abi": 2}
    refused(host, "core-mismatch", "kpatch", "loaded", manifest, src)


@pytest.mark.parametrize(
    ("code", "reason"), [(errno.EROFS, "read-only"), (errno.EACCES, "not-permitted"), (errno.ENODEV, "switch-failed")]
)
def test_a_switch_that_fails(ready: Any, code: int, reason: str) -> None:
    ready.transition("kpatch_a", "enabled", *ready.artifact("a")).reach()
    ready.refuse["write", "kpatch_a"] = [code]
    refused(ready, reason, "kpatch_a", "disabled")


def test_a_switch_that_does_not_happen(ready: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ready.transition("kpatch_a", "enabled", *ready.artifact("a")).reach()
    monkeypatch.setattr(transition, "_write", lambda path, value: None)
    refused(ready, "switch-failed", "kpatch_a", "disabled")


def test_a_load_whose_switch_stalls_is_reversed(ready: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(path: Path, value: bytes) -> None:
        ready.write(path, value)
        (path.parent / "transition").write_text("0\n")

    monkeypatch.setattr(transition, "_write", write)
    ready.refuse["stall", "SRC1"] = []
    refused(ready, "stalled", "kpatch_a", "enabled", *ready.artifact("a"))


def test_check_mode_refuses_what_would_be_refused(ready: Any) -> None:
    manifest, src = ready.artifact("a")
    manifest["kernel"]["build_id"] = "abcd"
    with pytest.raises(HostError) as caught:
        ready.transition("kpatch_a", "enabled", manifest, src).foresee()
    assert caught.value.reason == "wrong-kernel"


def test_what_an_interrupted_run_left_does_no_harm(ready: Any) -> None:
    (ready.root / STAGED / ".kpatch_a.ko.new").write_bytes(b"half")
    assert read_host(ready.root)["staged"] == ["kpatch"]
    assert ready.transition("kpatch_a", "enabled", *ready.artifact("a")).reach()[0]
    assert not list((ready.root / STAGED).glob(".*"))


def test_a_staging_directory_that_others_can_write_to(host: Any) -> None:
    directory = host.root / "var/lib/kpatch.fleet"
    directory.mkdir(parents=True)
    directory.chmod(0o777)
    refused(host, "not-permitted", "kpatch", "loaded", *host.artifact("kpatch"))


def test_a_forced_patch_that_can_not_be_unloaded_is_called_that_and_not_tried_again(ready: Any) -> None:
    ready.transition("kpatch_a", "enabled", *ready.artifact("a")).reach()
    (ready.root / "sys/kernel/kpatch/patches/kpatch_a/forced").write_text("1\n")
    ready.refuse["unload", "kpatch_a"] = [errno.EAGAIN]
    ready.calls.clear()
    with pytest.raises(HostError, match="kpatch_a is a forced patch: .* reboot the host to be rid of it") as caught:
        ready.transition("kpatch_a", "absent", timeout=1.0).reach()
    assert caught.value.reason == "unload-failed"
    assert ready.calls == ["write kpatch_a 0", "unload kpatch_a"]
