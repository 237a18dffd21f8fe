"""Entries in memory: within bounds, and never half forgotten."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cacheproxy.flow.l1 import L1
from cacheproxy.model import NO_USAGE, Entry


def an_entry(name, key=b"k", size=0):
    return Entry(
        id=name,
        key=key,
        scope=b"s",
        tenant="t",
        dialect="openai-chat",
        upstream="openai",
        model="m",
        prompt="",
        answer=b"x" * size,
        usage=NO_USAGE,
        cost_usd=0.0,
        latency_ms=1.0,
        created_at=0.0,
        expires_at=1.0,
        semantic=True,
    )


def test_entries_are_served_for_as_long_as_somebody_vouched_for_them():
    now = [0.0]
    l1 = L1(10_000, clock=lambda: now[0], trust_s=5.0)
    l1.keep([an_entry("1")])
    now[0] = 5.0
    assert l1.find(b"k")
    now[0] = 5.1
    assert (l1.find(b"k"), l1.get("1")) == ((), None)
    l1.vouch(asked=0.2)
    assert (l1.find(b"k"), l1.get("1")) == ((an_entry("1"),), an_entry("1"))
    l1.vouch(asked=0.0)
    assert l1.find(b"k"), "an answer that comes late takes nothing back"


def test_everything_can_be_forgotten():
    l1 = L1(10_000)
    l1.keep([an_entry("1")])
    l1.clear()
    assert (l1.find(b"k"), len(l1), l1.held_bytes) == ((), 0, 0)


def test_entries_are_found_by_key_and_by_id():
    l1, entries = L1(10_000), [an_entry("1"), an_entry("2")]
    l1.keep(entries)
    assert l1.find(b"k") == tuple(entries)
    assert l1.get("2") == entries[1]
    assert l1.find(b"other") == ()
    assert l1.get("other") is None


def test_what_is_kept_replaces_what_was_under_its_key():
    l1 = L1(10_000)
    l1.keep([an_entry("1")])
    l1.keep([an_entry("2")])
    assert l1.find(b"k") == (an_entry("2"),)
    assert l1.get("1") is None
    assert l1.held_bytes == an_entry("2").size


def test_what_was_used_least_recently_goes_first():
    l1 = L1(3 * an_entry("").size)
    for name in "abc":
        l1.keep([an_entry(name, key=name.encode())])
    l1.find(b"a")
    l1.get("b")
    l1.keep([an_entry("d", key=b"d")])
    assert [name for name in "abcd" if l1.get(name)] == ["a", "b", "d"]


def test_an_entry_larger_than_the_whole_is_not_kept():
    l1 = L1(10_000)
    l1.keep([an_entry("1")])
    l1.keep([an_entry("2", size=20_000)])
    assert (len(l1), l1.held_bytes) == (0, 0)


def test_forgetting_an_id_forgets_its_key():
    l1 = L1(10_000)
    l1.keep([an_entry("1"), an_entry("2")])
    l1.drop(["2", "never"])
    assert l1.find(b"k") == ()
    assert l1.get("1") is None


class Used(RuleBasedStateMachine):
    """Whatever is done, the bytes are right and within bounds, and both ways to an entry agree."""

    def __init__(self):
        super().__init__()
        self.l1 = L1(4_000)
        self.number = 0

    @rule(key=st.integers(0, 5), sizes=st.lists(st.integers(0, 3000), max_size=3))
    def keep(self, key, sizes):
        entries = []
        for size in sizes:
            self.number += 1
            entries.append(an_entry(str(self.number), bytes([key]), size))
        self.l1.keep(entries)

    @rule(key=st.integers(0, 5))
    def find(self, key):
        self.l1.find(bytes([key]))

    @rule(key=st.integers(0, 5))
    def drop_key(self, key):
        self.l1.drop_key(bytes([key]))

    @rule(back=st.integers(0, 5))
    def drop(self, back):
        self.l1.drop([str(self.number - back)])

    @invariant()
    def everything_agrees(self):
        held = [entry for key in range(6) for entry in self.l1.find(bytes([key]))]
        assert self.l1.held_bytes == sum(entry.size for entry in held) <= 4_000
        assert len(self.l1) == len(held)
        assert all(self.l1.get(entry.id) is entry for entry in held)


TestUsed = Used.TestCase
