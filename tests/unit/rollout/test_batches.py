# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""If this breaks, a rollout takes down a whole rack at once, or a kernel without a canary."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from ansible_collections.kpatch.fleet.plugins.plugin_utils import batches, policy
from ansible_collections.kpatch.fleet.plugins.plugin_utils.batches import Member
from ansible_collections.kpatch.fleet.plugins.plugin_utils.errors import FleetError
from hypothesis import given
from hypothesis import strategies as st

SIZES = st.one_of(st.integers(1, 60), st.integers(1, 100).map(lambda share: f"{share}%"))
MEMBERS = st.lists(st.tuples(st.sampled_from("rs"), st.sampled_from("abc")), max_size=60).map(
    lambda kinds: [Member(f"h{number}", *kind) for number, kind in enumerate(kinds)]
)
POLICIES = st.builds(
    lambda down, domain, canaries: policy.check(
        {"max_down": down, "max_down_per_domain": domain, "release_canaries": canaries}
    ),
    st.integers(0, 9),
    st.integers(0, 4),
    st.booleans(),
)


def alike(names: str) -> list[Member]:
    return [Member(name) for name in names]


def make(hosts: list[Member], sizes: list[Any], **given: Any) -> list[list[str]]:
    return batches.make(hosts, sizes, policy.check(given))


@given(MEMBERS, st.lists(SIZES, min_size=1, max_size=5), POLICIES)
def test_every_host_is_in_exactly_one_batch_within_its_limits(
    hosts: list[Member], sizes: list[Any], rules: policy.Policy
) -> None:
    made = batches.make(hosts, sizes, rules)
    domains = {host.name: host.domain for host in hosts}
    assert sorted(name for batch in made for name in batch) == sorted(domains)
    for batch in made:
        assert batch
        assert len(batch) <= (rules["max_down"] or len(batch))
        most = Counter(domains[name] for name in batch).most_common(1)[0][1]
        assert most <= (rules["max_down_per_domain"] or most)


@given(MEMBERS, st.lists(SIZES, min_size=1, max_size=5))
def test_no_second_host_of_a_kernel_is_in_the_batch_of_its_canary_unless_it_is_the_first(
    hosts: list[Member], sizes: list[Any]
) -> None:
    made = make(hosts, sizes)
    releases = {host.name: host.release for host in hosts}
    seen: set[str] = set()
    for number, batch in enumerate(made):
        fresh = [releases[name] for name in batch if releases[name] not in seen]
        assert number == 0 or len(set(fresh)) == len(fresh)
        assert number > 0 or len(set(fresh)) == 1
        seen.update(fresh)


def test_order_of_the_inventory_is_kept_where_hosts_are_alike() -> None:
    assert make(alike("abcdefg"), [1, "50%"]) == [["a"], ["b", "c", "d"], ["e", "f", "g"]]
    assert [len(batch) for batch in make(alike("abcdefg"), ["1", 2])] == [1, 2, 2, 2]


def test_each_kernel_has_its_canary_before_its_bulk() -> None:
    hosts = [Member("a", "6.1"), Member("b", "6.1"), Member("c", "6.12"), Member("d", "6.12")]
    assert make(hosts, [1, "100%"]) == [["a"], ["c"], ["b", "d"]]
    assert make(hosts, [1, "100%"], release_canaries=False) == [["a"], ["c", "b", "d"]]


def test_a_batch_is_spread_over_the_domains() -> None:
    hosts = [Member(f"{rack}{number}", "6.1", rack) for rack in "xyz" for number in range(4)]
    for batch in make(hosts, [3])[1:]:
        assert Counter(name[0] for name in batch).most_common(1)[0][1] <= 2
    for batch in make(hosts, ["100%"], max_down_per_domain=1):
        assert len({name[0] for name in batch}) == len(batch)


@pytest.mark.parametrize("sizes", [[], [0], [-1], ["0%"], ["101%"], ["half"], [1.5], [None]])
def test_sizes_that_are_none_are_refused(sizes: list[Any]) -> None:
    with pytest.raises(FleetError, match="kpatch_batches"):
        make(alike("a"), sizes)
