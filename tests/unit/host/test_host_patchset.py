# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""If this breaks, a set of patches goes on in another order than was asked for, or a part of it passes for all."""

from __future__ import annotations

import errno
import fcntl
import hashlib
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kpatch.fleet.plugins.module_utils.host import boot, entry, transition
from ansible_collections.kpatch.fleet.plugins.module_utils.host.staging import Staging
from ansible_collections.kpatch.fleet.plugins.module_utils.host.state import read_host
from ansible_collections.kpatch.fleet.plugins.module_utils.manifest import module_name
from fake_host import RELEASE, remove

NAMES = ["b", "a"]


class Set:
    """A patch set and the host that it is for; *builds* tells which build of each there is to load."""

    def __init__(self, host: Any) -> None:
        self.host = host
        self.builds = {"kpatch": "core", "a": "1", "b": "2"}
        self.beside = False
        self.shared = False

    def run(self, state: str = "enabled", check_mode: bool = False, **params: Any) -> dict[str, Any]:
        self.host.calls.clear()
        files = [self.artifact(name, build) for name, build in self.builds.items()] if state == "enabled" else []
        artifacts = [{"manifest": manifest, "src": str(src)} for manifest, src in files]
        given = {"names": NAMES, "state": state, "core": True, "artifacts": artifacts, "timeout": 0.0, **params}
        return entry.run("patchset", given, check_mode, self.host.root)

    def artifact(self, name: str, build: str) -> tuple[dict[str, Any], Path]:
        """With *beside*, the kernel knows each build of a patch by a name of its own.

        With *shared*, all patches replace a function in common, beside one of their own.
        """
        changes: dict[str, Any] = {"loaded_as": loaded_as(name, build)} if self.beside else {}
        names = [f"{name}_show", *(["both_show"] if self.shared else [])]
        changes["functions"] = [{"object": "vmlinux", "name": one, "sympos": 0, "reason": "changed"} for one in names]
        artifact: tuple[dict[str, Any], Path]
        artifact = self.host.artifact(name, build, **({} if name == "kpatch" else changes))
        return artifact

    def on(self) -> list[str]:
        found = read_host(self.host.root)
        return [module["module"] for module in [found["core"], *found["patches"]] if module]


def loaded_as(name: str, build: str) -> str:
    return f"kpatch_{name}_x{hashlib.sha256(build.encode()).hexdigest()[:6]}"


@pytest.fixture
def patches(host: Any, monkeypatch: pytest.MonkeyPatch) -> Set:
    monkeypatch.setattr(entry, "KernelLoader", lambda: host)
    return Set(host)


def test_on_in_order_and_off_in_reverse(patches: Set) -> None:
    empty = patches.host.tree()
    done = patches.run()
    assert done["changed"]
    assert patches.host.calls == ["load kpatch SRCcore", "load kpatch_b SRC2", "load kpatch_a SRC1"]
    assert done["msg"] == "kpatch: absent -> loaded; kpatch_b: absent -> enabled; kpatch_a: absent -> enabled"
    assert [result["after"]["module"] for result in done["results"]] == ["kpatch", "kpatch_b", "kpatch_a"]
    gone = patches.run("absent")
    unloads = [call for call in patches.host.calls if call.startswith("unload")]
    assert (gone["changed"], unloads) == (True, ["unload kpatch_a", "unload kpatch_b", "unload kpatch"])
    assert patches.host.tree() == empty


@pytest.mark.parametrize("state", ["enabled", "absent"])
def test_a_second_time_changes_nothing(patches: Set, state: str) -> None:
    patches.run()
    patches.run(state)
    again = patches.run(state)
    assert (again["changed"], again["before"], patches.host.calls) == (False, again["after"], [])


@pytest.mark.parametrize(("earlier", "state"), [([], "enabled"), (NAMES, "absent"), (["a"], "enabled"), ([], "absent")])
def test_check_mode_foretells_what_happens(patches: Set, earlier: list[str], state: str) -> None:
    if earlier:
        patches.run(names=earlier)
    tree, now = patches.host.tree(), read_host(patches.host.root)
    foreseen = patches.run(state, check_mode=True)
    assert (patches.host.tree(), patches.host.calls, foreseen["host"]) == (tree, [], now)
    assert (foreseen.get("failed"), foreseen["warnings"]) == (None, [])
    done = patches.run(state)
    assert {key: done[key] for key in ("changed", "before", "after", "diff", "msg", "results")} == {
        key: foreseen[key] for key in ("changed", "before", "after", "diff", "msg", "results")
    }


@pytest.mark.parametrize("state", ["enabled", "absent"])
def test_the_host_is_read_after_all_was_done(patches: Set, state: str) -> None:
    patches.run()
    assert patches.run(state)["host"] == read_host(patches.host.root)


def test_the_first_failure_ends_it_and_says_what_each_part_is_in(patches: Set) -> None:
    patches.host.refuse["load", "SRC2"] = [errno.EINVAL]
    done = patches.run()
    assert (done["failed"], done["changed"], done["reason"]) == (True, True, "load-failed")
    assert patches.on() == ["kpatch"]
    assert patches.host.calls == ["load kpatch SRCcore", "load kpatch_b SRC2"]
    assert "On the host now: kpatch_b is absent." in done["msg"]
    assert done["msg"].endswith("Of the others, kpatch is loaded, kpatch_a is absent (not tried).")
    assert [bool(result.get("failed")) for result in done["results"]] == [False, True]
    assert done["host"] == read_host(patches.host.root)
    assert {module: summary["state"] for module, summary in done["after"].items()} == {
        "kpatch": "loaded",
        "kpatch_b": "absent",
        "kpatch_a": "absent",
    }


def test_the_core_module_stays_if_a_patch_does_not_go(patches: Set) -> None:
    patches.run()
    patches.host.refuse["write", "kpatch_b"] = [errno.EBUSY]
    done = patches.run("absent")
    assert (done["reason"], patches.on()) == ("busy", ["kpatch", "kpatch_b"])
    assert done["msg"].endswith("Of the others, kpatch_a is absent, kpatch is loaded (not tried).")


def test_a_failure_in_check_mode_is_no_change_of_the_part(patches: Set) -> None:
    (patches.host.root / "proc/sys/kernel/modules_disabled").write_text("1\n")
    done = patches.run(check_mode=True)
    assert (done["failed"], done["changed"], done["reason"]) == (True, False, "modules-disabled")


def test_check_mode_goes_up_to_the_first_refusal(patches: Set) -> None:
    patches.host.show_livepatch("livepatch_x", "b_show")
    done = patches.run(check_mode=True)
    assert (done["failed"], done["reason"], patches.host.calls) == (True, "foreign-patch", [])
    assert done["after"]["kpatch"]["state"] == "loaded"
    assert "Of the others, kpatch is absent, kpatch_a is absent (not tried)." in done["msg"]


def test_without_the_core_module(patches: Set) -> None:
    assert patches.run(core=False)["reason"] == "core-missing"
    patches.run()
    assert not patches.run("absent", core=False).get("failed")
    assert patches.on() == ["kpatch"]


def test_the_core_module_does_not_go_while_others_need_it(patches: Set) -> None:
    patches.run()
    for check_mode in (True, False):
        assert patches.run("absent", names=["a"], check_mode=check_mode)["reason"] == "core-in-use"
    assert patches.on() == ["kpatch", "kpatch_b"]


def builds(patches: Set) -> dict[str, str]:
    found = read_host(patches.host.root)
    return {one["module"]: one["srcversion"] for one in [found["core"], *found["patches"]] if one}


def upgrade(patches: Set, **params: Any) -> dict[str, Any]:
    """From one whole set to another: the core module and both patches are other builds."""
    patches.builds = {"kpatch": "core2", "a": "3", "b": "4"}
    return patches.run(**params)


def test_a_new_core_module_comes_with_its_patches_at_once(patches: Set) -> None:
    patches.run()
    foreseen = upgrade(patches, check_mode=True)
    assert patches.host.calls == []
    done = upgrade(patches)
    assert not done.get("failed")
    assert builds(patches) == {"kpatch": "SRCcore2", "kpatch_a": "SRC3", "kpatch_b": "SRC4"}
    assert [call for call in patches.host.calls if not call.startswith("write")] == [
        "unload kpatch_a",
        "unload kpatch_b",
        "unload kpatch",
        "load kpatch SRCcore2",
        "load kpatch_b SRC4",
        "load kpatch_a SRC3",
    ]
    assert (foreseen["msg"], foreseen["after"]) == (done["msg"], done["after"])
    assert not upgrade(patches)["changed"]
    assert not list(patches.host.root.rglob("*.old"))


@pytest.mark.parametrize("refused", ["SRCcore2", "SRC4", "SRC3"])
def test_a_new_set_that_does_not_come_on_whole_leaves_the_one_before(patches: Set, refused: str) -> None:
    patches.run()
    tree = patches.host.tree()
    patches.host.refuse["load", refused] = [errno.EINVAL]
    done = upgrade(patches)
    assert done["failed"]
    assert "The set that ran before is on again." in done["msg"]
    assert patches.host.tree() == tree


def test_a_patch_that_does_not_go_keeps_the_core_module(patches: Set) -> None:
    patches.run()
    tree = patches.host.tree()
    patches.host.refuse["write", "kpatch_b"] = [errno.EBUSY]
    done = upgrade(patches)
    assert (done["reason"], patches.host.tree()) == ("busy", tree)


def test_a_patch_fails_after_another_was_replaced(patches: Set) -> None:
    patches.run()
    tree = patches.host.tree()
    patches.builds.update(a="3", b="4")
    patches.host.refuse["load", "SRC3"] = [errno.EINVAL]
    assert patches.run()["failed"]
    assert patches.host.tree() == tree


def test_a_set_that_can_not_be_put_back_says_what_is_on(patches: Set) -> None:
    patches.run()
    patches.host.refuse["load", "SRC3"] = [errno.EINVAL]
    patches.host.refuse["load", "SRC1"] = [errno.EINVAL]
    done = upgrade(patches)
    assert "the set that ran before could not be put back whole" in done["msg"]
    assert "Of the others, kpatch_b is enabled, kpatch is loaded." in done["msg"]
    assert patches.on() == ["kpatch", "kpatch_b"]


def test_a_core_module_that_others_use_is_not_replaced(patches: Set) -> None:
    patches.run()
    tree = patches.host.tree()
    assert upgrade(patches, names=["a"])["reason"] == "core-in-use"
    assert patches.host.tree() == tree


@pytest.fixture
def pair(patches: Set) -> Set:
    """A set of which two builds of a patch can be loaded at once; the first is on."""
    patches.beside = True
    patches.run()
    return patches


def newer(pair: Set, **params: Any) -> dict[str, Any]:
    """Only the patches are other builds."""
    pair.builds.update(a="3", b="4")
    return pair.run(**params)


def enabled(pair: Set, name: str) -> list[str]:
    return [
        patch["srcversion"]
        for patch in read_host(pair.host.root)["patches"]
        if patch["enabled"] and patch["module"] == f"kpatch_{name}"
    ]


def test_a_newer_build_takes_the_place_of_the_older_in_one_switch(pair: Set) -> None:
    foreseen = newer(pair, check_mode=True)
    done = newer(pair)
    assert pair.host.calls == [
        f"load kpatch_b SRC4 replaces={loaded_as('b', '2')}",
        f"unload {loaded_as('b', '2')}",
        f"load kpatch_a SRC3 replaces={loaded_as('a', '1')}",
        f"unload {loaded_as('a', '1')}",
    ]
    assert builds(pair) == {"kpatch": "SRCcore", "kpatch_a": "SRC3", "kpatch_b": "SRC4"}
    assert (foreseen["msg"], foreseen["after"]) == (done["msg"], done["after"])
    assert not newer(pair)["changed"]
    assert not list((pair.host.root / "var").rglob(".*"))


@pytest.mark.parametrize("at", ["SRC3", "SRC4"])
def test_its_fixes_are_on_throughout_whatever_fails(pair: Set, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    tree = pair.host.tree()
    pair.host.refuse["load", at] = [errno.EINVAL]
    gone: list[str] = []
    for step in ("load", "unload", "write"):
        act = getattr(pair.host, step)

        def watch(*arguments: Any, act: Any = act) -> None:
            act(*arguments)
            gone.extend(name for name in ("a", "b") if not enabled(pair, name))

        monkeypatch.setattr(pair.host, step, watch)
    monkeypatch.setattr(transition, "_write", pair.host.write)
    done = newer(pair)
    assert done["failed"]
    assert (gone, pair.host.tree()) == ([], tree)


def test_an_older_build_that_can_not_be_unloaded_stays_in_charge(pair: Set) -> None:
    tree = pair.host.tree()
    pair.host.refuse["unload", loaded_as("b", "2")] = [errno.EBUSY]
    done = newer(pair)
    assert done["reason"] == "busy"
    assert enabled(pair, "b") == ["SRC2"]
    assert pair.host.tree() == tree


def test_livepatch_puts_the_newer_build_on_top_and_takes_the_older_off(pair: Set) -> None:
    manifest, src = pair.host.artifact("b", "4", loaded_as=loaded_as("b", "4"), backend="livepatch")
    (pair.host.root / "sys/kernel/livepatch").mkdir()
    pair.host.calls.clear()
    pair.host.transition("kpatch_b", "enabled", manifest, src).reach()
    assert pair.host.calls == [
        "load kpatch_b SRC4",
        f"write {loaded_as('b', '2')} 0",
        f"unload {loaded_as('b', '2')}",
    ]


def test_builds_of_before_had_the_modules_own_name_and_are_replaced(patches: Set) -> None:
    patches.run()
    patches.beside = True
    newer(patches)
    assert "load kpatch_b SRC4 replaces=kpatch_b" in patches.host.calls
    assert patches.on() == ["kpatch", "kpatch_a", "kpatch_b"]
    assert [patch["loaded_as"] for patch in read_host(patches.host.root)["patches"]] == [
        loaded_as("a", "3"),
        loaded_as("b", "4"),
    ]


def test_both_builds_go_if_the_patch_does(pair: Set) -> None:
    manifest, src = pair.artifact("b", "4")
    with src.open("rb") as stream:
        pair.host.load(stream.fileno(), f"replaces={loaded_as('b', '2')}")
    pair.run("absent")
    assert pair.on() == []


def test_no_other_run_gets_between_two_parts(pair: Set, monkeypatch: pytest.MonkeyPatch) -> None:
    others: list[Any] = []
    load = pair.host.load

    def meanwhile(handle: int, parameters: str) -> None:
        with (pair.host.root / "run/kpatch.fleet.lock").open("w") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                others.append("got in")
            except BlockingIOError:
                pass
        load(handle, parameters)
        others.append(
            entry.run("patch", {"name": "a", "state": "absent", "artifacts": [], "timeout": 0.0}, False, pair.host.root)
        )

    monkeypatch.setattr(pair.host, "load", meanwhile)
    assert not newer(pair).get("failed")
    assert [other["reason"] for other in others] == ["locked", "locked"]


class KilledError(BaseException):
    """The process is gone: no code of ours runs after it."""


def killed_at(pair: Set, monkeypatch: pytest.MonkeyPatch, call: int, change: Any = None) -> None:
    """End the *change*, an upgrade, before the *call*th thing that it has the kernel do."""
    change = change or (upgrade if pair.builds["kpatch"] == "core2" else newer)
    with monkeypatch.context() as patched:
        left = [call]
        for step in ("load", "unload", "write"):
            act = getattr(pair.host, step)

            def count(*arguments: Any, act: Any = act) -> None:
                if not left[0]:
                    raise KilledError
                left[0] -= 1
                act(*arguments)

            patched.setattr(pair.host, step, count)
        patched.setattr(transition, "_write", pair.host.write)
        with pytest.raises(KilledError):
            change(pair)


@pytest.mark.parametrize("swap", [False, True], ids=["patches", "core"])
@pytest.mark.parametrize("call", range(4))
@pytest.mark.parametrize("then", ["again", "back", "off", "boot"])
def test_an_upgrade_that_was_killed_is_made_whole(
    pair: Set, monkeypatch: pytest.MonkeyPatch, swap: bool, call: int, then: str
) -> None:
    before = pair.host.tree()
    old = dict(pair.builds)
    if swap:
        pair.builds["kpatch"] = "core2"
    killed_at(pair, monkeypatch, call)
    assert read_host(pair.host.root)["unfinished"]
    assert pair.run("absent", check_mode=True)["host"]["unfinished"]
    if then == "again":
        wanted = dict(pair.builds)
        done = pair.run()
        assert not done.get("failed")
        assert "was cut off" in done["warnings"][0]
        assert builds(pair) == {module_name(name): f"SRC{build}" for name, build in wanted.items()}
    elif then == "back":
        pair.builds = old
        assert not pair.run().get("failed")
        assert pair.host.tree() == before
    elif then == "off":
        assert not pair.run("absent").get("failed")
        assert pair.on() == []
    else:
        boot.put_on(reboot(pair.host).root, pair.host, 0)
        assert pair.host.tree() == before
    assert not read_host(pair.host.root)["unfinished"]
    assert not list((pair.host.root / "var").rglob(".*"))


def reboot(host: Any) -> Any:
    """Nothing is loaded any more, and the boot is another one."""
    for path in ("sys/kernel/kpatch", "sys/module"):
        if (host.root / path).exists():
            remove(host.root / path)
    (host.root / "sys/module").mkdir()
    (host.root / "proc/sys/kernel/random/boot_id").write_text("4-5-6\n")
    return host


def test_a_killed_upgrade_that_can_not_be_undone_is_told(pair: Set, monkeypatch: pytest.MonkeyPatch) -> None:
    killed_at(pair, monkeypatch, 2)
    pair.host.refuse["load", "SRC2"] = [errno.EINVAL]
    done = pair.run()
    assert done["failed"]
    assert "was cut off on this host, and what ran before could not be put back" in done["msg"]


def drop(pair: Set, **params: Any) -> dict[str, Any]:
    """The patch c takes the place of a."""
    pair.builds = {"kpatch": pair.builds["kpatch"], "b": pair.builds["b"], "c": "5"}
    return pair.run(names=["b", "c"], **{"obsolete": ["a"], **params})


def test_what_left_the_set_goes_once_its_successor_is_on(pair: Set) -> None:
    foreseen = drop(pair, check_mode=True)
    assert pair.host.calls == []
    done = drop(pair)
    assert pair.host.calls == ["load kpatch_c SRC5", f"write {loaded_as('a', '1')} 0", f"unload {loaded_as('a', '1')}"]
    assert (foreseen["msg"], foreseen["diff"]) == (done["msg"], done["diff"])
    assert (done["diff"]["before"]["kpatch_a"]["state"], done["diff"]["after"]["kpatch_a"]["state"]) == (
        "enabled",
        "absent",
    )
    now = read_host(pair.host.root)
    assert pair.on() == ["kpatch", "kpatch_b", "kpatch_c"]
    assert now["staged"] == pair.on()
    assert Staging(pair.host.root, RELEASE).enabled() == pair.on()
    assert not list((pair.host.root / "var").rglob(".*"))
    assert done["host"] == now
    again = drop(pair)
    assert (again["changed"], pair.host.calls) == (False, [])


@pytest.mark.parametrize("refused", [("load", "SRC5"), ("unload", "kpatch_a"), ("write", "kpatch_a")])
def test_what_left_the_set_stays_if_the_new_set_does_not_come_on(patches: Set, refused: tuple[str, str]) -> None:
    patches.run()
    tree = patches.host.tree()
    patches.host.refuse[refused] = [errno.EBUSY]
    done = drop(patches)
    assert done["failed"]
    assert "The set that ran before is on again." in done["msg"]
    assert patches.host.tree() == tree


def test_what_left_the_set_is_back_before_its_successor_goes(pair: Set) -> None:
    """The one after it does not let go: a has gone by then."""
    pair.builds.update(c="5", d="6")
    pair.host.refuse["unload", loaded_as("b", "2")] = [errno.EBUSY]
    before = builds(pair)
    done = pair.run(names=["c", "d"], obsolete=["a", "b"])
    assert (done["reason"], builds(pair)) == ("busy", before)
    calls = [call for call in pair.host.calls if call.startswith(("load", "unload"))]
    assert calls == [
        "load kpatch_c SRC5",
        "load kpatch_d SRC6",
        f"unload {loaded_as('a', '1')}",
        f"unload {loaded_as('b', '2')}",
        "load kpatch_a SRC1",
        f"unload {loaded_as('d', '6')}",
        f"unload {loaded_as('c', '5')}",
    ]


def test_what_left_the_set_lets_a_new_core_module_come(pair: Set) -> None:
    pair.builds["kpatch"] = "core2"
    done = drop(pair)
    assert not done.get("failed")
    assert builds(pair) == {"kpatch": "SRCcore2", "kpatch_b": "SRC2", "kpatch_c": "SRC5"}


def test_patches_of_somebody_else_are_left_alone(patches: Set) -> None:
    """One of the very name that is not what the host was given, and one that it knows nothing of."""
    patches.run()
    for module in ("kpatch_a", "kpatch_stranger"):
        if module == "kpatch_a":
            remove(patches.host.root / "sys/module/kpatch_a")
        patches.host.show_module(module, "OTHER", "dd" * 20)
        if module != "kpatch_a":
            patches.host.show_patch(module)
    done = drop(patches, obsolete=["a", "stranger"])
    assert not done.get("failed")
    assert [call for call in patches.host.calls if not call.startswith("load")] == []
    assert patches.on() == ["kpatch", "kpatch_a", "kpatch_b", "kpatch_c", "kpatch_stranger"]
    assert [warning.split()[0] for warning in done["warnings"]] == ["kpatch_a", "kpatch_stranger"]


def test_what_left_the_set_while_it_was_off_does_not_come_back_at_a_boot(pair: Set) -> None:
    reboot(pair.host)
    assert drop(pair)["changed"]
    assert Staging(pair.host.root, RELEASE).enabled() == ["kpatch", "kpatch_b", "kpatch_c"]
    assert "kpatch_a" not in read_host(pair.host.root)["staged"]


@pytest.mark.parametrize("call", range(3))
def test_killed_while_a_patch_leaves_the_set(pair: Set, monkeypatch: pytest.MonkeyPatch, call: int) -> None:
    before = pair.host.tree()
    killed_at(pair, monkeypatch, call, drop)
    assert read_host(pair.host.root)["unfinished"]
    pair.builds = {"kpatch": "core", "a": "1", "b": "2"}
    assert not pair.run().get("failed")
    assert pair.host.tree() == before


def test_obsolete_can_not_be_wanted(patches: Set) -> None:
    assert patches.run(obsolete=["a"])["reason"] == "bad-arguments"
    assert patches.run("absent", obsolete=["c"])["reason"] == "bad-arguments"
    assert patches.run(obsolete=["../c"])["reason"] == "bad-arguments"


def without_former(patches: Set) -> dict[str, str]:
    """All that the host has but what is kept of the set before: that is gone once it is there again."""
    return {path: content for path, content in patches.host.tree().items() if "/former/" not in path}


def take_back(patches: Set, order: str = "x", **params: Any) -> dict[str, Any]:
    return patches.run("restored", undoes=order, **params)


@pytest.mark.parametrize("core", ["core", "core2"])
def test_a_change_is_taken_back_to_what_ran_before(pair: Set, core: str) -> None:
    """One patch of another build, one that is new, one that is obsolete; with or without another core module."""
    tree, before = without_former(pair), builds(pair)
    pair.builds = {"kpatch": core, "b": "4", "c": "5"}
    assert not pair.run(names=["b", "c"], obsolete=["a"], order="x").get("failed")
    after = builds(pair)
    foreseen = take_back(pair, check_mode=True)
    assert builds(pair) == after
    done = take_back(pair)
    assert (done["changed"], builds(pair)) == (True, before)
    assert pair.host.tree() == tree
    assert done["msg"].startswith("it is as before the change: ")
    assert {module: one["state"] for module, one in foreseen["after"].items()} == {
        module: one["state"] for module, one in done["after"].items()
    }
    assert take_back(pair)["reason"] == "not-kept"


def test_the_fixes_are_on_while_a_change_is_taken_back(pair: Set, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not drop(pair, order="x").get("failed")
    take_back(pair)
    assert pair.host.calls[0] == "load kpatch_a SRC1"
    assert pair.host.calls[-1] == f"unload {loaded_as('c', '5')}"


def test_a_first_change_is_taken_back_to_nothing(patches: Set) -> None:
    empty = patches.host.tree()
    patches.run(order="x")
    assert take_back(patches)["changed"]
    assert patches.host.tree() == empty


def test_a_change_that_went_half_way_is_taken_back(patches: Set) -> None:
    empty = patches.host.tree()
    patches.host.refuse["load", "SRC1"] = [errno.EINVAL]
    assert patches.run(order="x")["failed"]
    assert patches.on() == ["kpatch", "kpatch_b"]
    assert not take_back(patches).get("failed")
    assert patches.host.tree() == empty


def test_a_patch_that_was_off_before_is_off_again(pair: Set) -> None:
    entry.run("patch", {"name": "a", "state": "disabled", "artifacts": [], "timeout": 0.0}, False, pair.host.root)
    newer(pair, order="x")
    assert enabled(pair, "a") == ["SRC3"]
    take_back(pair)
    assert (enabled(pair, "a"), builds(pair)["kpatch_a"]) == ([], "SRC1")


def test_a_later_change_is_not_taken_back(pair: Set) -> None:
    newer(pair, order="x")
    for later in ("enabled", "absent"):
        pair.builds["a"] = "7"
        assert pair.run(later, names=["a"], core=False, order="y")["changed"]
        after = builds(pair)
        done = take_back(pair)
        assert (done["failed"], done["reason"], builds(pair)) == (True, "not-kept", after)
        newer(pair, order="x")


def test_a_run_that_changes_nothing_leaves_the_former_set(pair: Set) -> None:
    before = builds(pair)
    newer(pair, order="x")
    assert not newer(pair, order="y")["changed"]
    take_back(pair)
    assert builds(pair) == before


def test_what_can_not_be_taken_back_tells_what_is_on_and_is_ended_later(pair: Set) -> None:
    before = builds(pair)
    newer(pair, order="x")
    pair.host.refuse["load", "SRC2"] = [errno.EINVAL]
    done = take_back(pair)
    assert (done["failed"], done["reason"]) == (True, "load-failed")
    assert "On the host now: kpatch is loaded, kpatch_b is enabled, kpatch_a is enabled." in done["msg"]
    assert done["host"]["unfinished"]
    pair.host.refuse.clear()
    assert not take_back(pair).get("failed")
    assert builds(pair) == before


def test_a_host_that_has_rebooted_meanwhile_gets_its_former_set(pair: Set) -> None:
    before = builds(pair)
    newer(pair, order="x")
    boot.put_on(reboot(pair.host).root, pair.host, 0)
    assert builds(pair)["kpatch_a"] == "SRC3"
    take_back(pair)
    assert builds(pair) == before
    newer(pair, order="y")
    reboot(pair.host)
    take_back(pair, "y")
    assert builds(pair) == before


@pytest.mark.parametrize("call", range(4))
def test_taking_back_that_was_killed_is_ended_by_the_next(
    pair: Set, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    before = builds(pair)
    newer(pair, order="x")
    killed_at(pair, monkeypatch, call, take_back)
    assert read_host(pair.host.root)["unfinished"]
    pair.builds = {"kpatch": "core", "a": "1", "b": "2"}
    assert not pair.run().get("failed")
    assert builds(pair) == before


def test_another_upgrade_that_was_cut_off_is_undone_first(pair: Set, monkeypatch: pytest.MonkeyPatch) -> None:
    before = builds(pair)
    newer(pair, order="x")
    killed_at(pair, monkeypatch, 2, lambda pair: drop(pair, order="y"))
    assert not take_back(pair).get("failed")
    assert builds(pair) == before


@pytest.mark.parametrize("shared", [True, False])
def test_of_two_patches_with_a_function_in_common_the_later_one_is_in_charge_again(patches: Set, shared: bool) -> None:
    """b came before a and goes with the change."""
    pair = stacked(patches, shared)
    before = builds(pair)
    pair.builds = {"kpatch": "core", "a": "1"}
    assert not pair.run(names=["a"], obsolete=["b"], order="x").get("failed")
    take_back(pair)
    off_and_on = [f"write {loaded_as('a', '1')} 0", f"unload {loaded_as('a', '1')}", "load kpatch_b SRC2"]
    assert pair.host.calls == ([*off_and_on, "load kpatch_a SRC1"] if shared else ["load kpatch_b SRC2"])
    assert builds(pair) == before


def stacked(patches: Set, shared: bool = True) -> Set:
    """The pair, b below and a above it; *shared* says whether both replace a function."""
    patches.beside, patches.shared = True, shared
    patches.run()
    return patches


def lower(pair: Set, **params: Any) -> dict[str, Any]:
    """A newer build of the patch below."""
    pair.builds["b"] = "4"
    return pair.run(**params)


@pytest.mark.parametrize("shared", [True, False])
def test_newer_build_of_a_patch_goes_below_those_that_were_above_it(patches: Set, shared: bool) -> None:
    """Else a, which was tested on top of b, would silently not be in charge any more."""
    pair = stacked(patches, shared)
    foreseen = lower(pair, check_mode=True)
    done = lower(pair)
    assert not done.get("failed")
    assert (foreseen["msg"], foreseen["after"]) == (done["msg"], done["after"])
    above = loaded_as("a", "1")
    again = [f"write {above} 0", f"unload {above}", "load kpatch_a SRC1"] if shared else []
    upgrade = [f"load kpatch_b SRC4 replaces={loaded_as('b', '2')}", f"unload {loaded_as('b', '2')}"]
    assert pair.host.calls == [*upgrade, *again]
    assert pair.host.in_charge("both_show") == (above if shared else None)
    assert Staging(pair.host.root, RELEASE).enabled() == ["kpatch", "kpatch_b", "kpatch_a"]
    assert not lower(pair)["changed"]


def test_patch_that_is_new_below_others_goes_below_them(patches: Set) -> None:
    pair = stacked(patches)
    pair.builds["c"] = "5"
    assert not pair.run(names=["b", "c", "a"]).get("failed")
    assert pair.host.stack == [loaded_as("b", "2"), loaded_as("c", "5"), loaded_as("a", "1")]
    assert Staging(pair.host.root, RELEASE).enabled() == ["kpatch", "kpatch_b", "kpatch_c", "kpatch_a"]
    boot.put_on(reboot(pair.host).root, pair.host, 0)
    assert pair.host.in_charge("both_show") == loaded_as("a", "1")


def test_what_made_room_for_a_new_one_below_is_back_if_it_does_not_come_on_again(patches: Set) -> None:
    pair = stacked(patches)
    tree = pair.host.tree()
    pair.builds["c"] = "5"
    pair.host.refuse["load", "SRC1"] = [errno.EINVAL, 0]
    done = pair.run(names=["b", "c", "a"])
    assert (done["failed"], pair.host.tree()) == (True, tree)
    assert pair.host.in_charge("both_show") == loaded_as("a", "1")


def test_what_is_above_what_came_again_comes_again_too(patches: Set, monkeypatch: pytest.MonkeyPatch) -> None:
    """c shares nothing with b, but with a, which shares something with b."""
    pair = stacked(patches)
    manifest, src = pair.host.artifact("c", "5", loaded_as=loaded_as("c", "5"), functions=function("a_show"))
    pair.host.transition("kpatch_c", "enabled", manifest, src).reach()
    monkeypatch.setattr(pair, "artifact", with_functions(pair, "c", "a_show"))
    pair.builds["c"] = "5"
    assert not lower(pair, names=["b", "a", "c"]).get("failed")
    assert pair.host.stack == [loaded_as("b", "4"), loaded_as("a", "1"), loaded_as("c", "5")]


def function(name: str) -> list[dict[str, Any]]:
    return [{"object": "vmlinux", "name": name, "sympos": 1, "reason": "changed"}]


def with_functions(pair: Set, of: str, name: str) -> Any:
    """The patch *of* replaces the function *name* only."""
    make = pair.artifact

    def made(patch: str, build: str) -> Any:
        if patch != of:
            return make(patch, build)
        return pair.host.artifact(patch, build, loaded_as=loaded_as(patch, build), functions=function(name))

    return made


def test_order_of_the_set_holds_as_soon_as_one_of_it_is_changed(patches: Set) -> None:
    pair = stacked(patches)
    pair.builds["c"] = "5"
    assert not pair.run(names=["a", "b", "c"]).get("failed")
    assert pair.host.stack == [loaded_as("a", "1"), loaded_as("b", "2"), loaded_as("c", "5")]


@pytest.mark.parametrize("refused", ["SRC4", "SRC1"])
def test_what_was_above_is_in_charge_again_whatever_fails(patches: Set, refused: str) -> None:
    pair = stacked(patches)
    tree = pair.host.tree()
    pair.host.refuse["load", refused] = [errno.EINVAL, 0]
    done = lower(pair)
    assert done["failed"]
    assert "The set that ran before is on again." in done["msg"]
    assert pair.host.tree() == tree
    assert pair.host.in_charge("both_show") == loaded_as("a", "1")


@pytest.mark.parametrize("call", range(5))
def test_killed_on_the_way_the_one_above_is_in_charge_again(
    patches: Set, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    pair = stacked(patches)
    tree = pair.host.tree()
    killed_at(pair, monkeypatch, call, lower)
    pair.builds["b"] = "2"
    assert not pair.run().get("failed")
    assert pair.host.tree() == tree
    assert pair.host.in_charge("both_show") == loaded_as("a", "1")


def test_taken_back_the_one_above_is_in_charge_as_well(patches: Set) -> None:
    pair = stacked(patches)
    before = builds(pair)
    lower(pair, order="x")
    assert not take_back(pair).get("failed")
    assert (builds(pair), pair.host.in_charge("both_show")) == (before, loaded_as("a", "1"))


def test_patch_of_another_set_that_is_above_is_not_covered(patches: Set) -> None:
    """It can't be taken off for that, and must not be covered either: the host is refused before anything is done."""
    pair = stacked(patches)
    tree = pair.host.tree()
    for check_mode in (True, False):
        done = lower(pair, names=["b"], check_mode=check_mode)
        assert (done["failed"], done["reason"], pair.host.calls) == (True, "foreign-patch", [])
        assert "kpatch_a replaces both_show of vmlinux, too, on top of kpatch_b" in done["msg"]
    assert pair.host.tree() == tree
    assert not lower(pair, names=["b"], obsolete=["a"]).get("failed")


def test_patch_of_another_set_that_is_below_is_nobodys_business(patches: Set) -> None:
    pair = stacked(patches)
    pair.builds["a"] = "3"
    assert not pair.run(names=["a"]).get("failed")
    assert pair.host.in_charge("both_show") == loaded_as("a", "3")
