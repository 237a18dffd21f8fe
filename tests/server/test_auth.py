"""The door: which keys open it, and what is left of a request behind it."""

import logging

import pytest
from multidict import CIMultiDict, CIMultiDictProxy
from support.waiting import until

from cacheproxy.core.keys import VirtualKey, digest_of
from cacheproxy.errors import PortUnavailable, Unauthorized
from cacheproxy.flow.messages import Whole
from cacheproxy.model import Caller
from cacheproxy.server import auth
from cacheproxy.server.auth import Door
from cacheproxy.tasks import TaskSet

NOW = 1_800_000_000.0
FIXED = "made-up-by-an-operator"
CHAT = "/v1/chat/completions"


class Kept:
    """Keys in memory; ``failing`` for a store that cannot be asked."""

    def __init__(self, *names):
        self.names = list(names)
        self.asked = 0
        self.read = 0
        self.failing = False

    async def version(self):
        self.asked += 1
        if self.failing:
            raise PortUnavailable("no store")
        return hash(tuple(self.names))

    async def every(self):
        self.read += 1
        return [VirtualKey(n, f"tenant-{n}", digest_of(key_of(n)), "cpk_", NOW, NOW + 60) for n in self.names]

    async def add(self, key):
        raise NotImplementedError

    async def revoke(self, name):
        raise NotImplementedError


def key_of(name):
    return f"cpk_virtual_{name}"


def headers(*pairs):
    return CIMultiDictProxy(CIMultiDict(pairs))


def fixed(*keys):
    return Door(keys or [("", FIXED)], None, now=lambda: NOW)


@pytest.fixture
def clock():
    class Clock:
        now = NOW

        def __call__(self):
            return self.now

    return Clock()


@pytest.fixture
async def virtual(clock):
    door = Door([], Kept("alice"), now=clock)
    await door.load()
    return door


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Authorization", f"Bearer {FIXED}"),
        ("authorization", f"bearer  {FIXED} "),
        ("Authorization", FIXED),
        ("x-api-key", FIXED),
        ("api-key", FIXED),
        ("x-goog-api-key", FIXED),
        ("X-CacheProxy-Key", FIXED),
    ],
    ids=["openai", "in lower case", "bare", "anthropic", "azure", "gemini", "ours"],
)
def test_a_key_is_taken_where_clients_send_theirs_and_is_gone_afterwards(name, value):
    caller, left = fixed().admit(headers((name, value), ("Content-Type", "a/b"), ("X-Two", "1"), ("X-Two", "2")), CHAT)
    assert caller == Caller()
    assert list(left.items()) == [("Content-Type", "a/b"), ("X-Two", "1"), ("X-Two", "2")]


def test_a_key_of_a_tenant_says_whose_it_is():
    assert (
        fixed(("", FIXED), ("research", "r" * 16)).admit(headers(("api-key", "r" * 16)), CHAT)[0].tenant == "research"
    )


@pytest.mark.parametrize("sent", [(), (("Authorization", ""),), (("X-Key", FIXED),), (("Cookie", FIXED),)])
def test_without_a_key_one_is_asked_for(sent):
    with pytest.raises(Unauthorized, match="asks for a key"):
        fixed().admit(headers(*sent), CHAT)


@pytest.mark.parametrize("wrong", ["x", FIXED[:-1], FIXED + "x", FIXED.upper(), "\udcff" + FIXED])
def test_another_key_is_refused_and_not_repeated(wrong):
    with pytest.raises(Unauthorized) as refused:
        fixed().admit(headers(("Authorization", f"Bearer {wrong}")), CHAT)
    assert wrong not in refused.value.message.split()


def test_a_client_that_sends_its_key_twice_leaves_none_of_it():
    sent = headers(("Authorization", f"Bearer {FIXED}"), ("x-api-key", FIXED), ("Cookie", f"a={FIXED}"), ("A", "b"))
    assert list(fixed().admit(sent, CHAT)[1].items()) == [("A", "b")]


def test_a_header_of_ours_leaves_the_caller_s_credential_to_the_upstream():
    sent = headers(("X-CacheProxy-Key", FIXED), ("Authorization", "Bearer sk-own"))
    assert fixed().admit(sent, CHAT)[1] == CIMultiDict({"Authorization": "Bearer sk-own"})


def test_beside_a_header_of_ours_no_other_one_opens_the_door():
    with pytest.raises(Unauthorized, match="not one of"):
        fixed().admit(headers(("X-CacheProxy-Key", "wrong"), ("Authorization", f"Bearer {FIXED}")), CHAT)


def test_a_key_in_the_url_is_refused_although_it_is_right():
    with pytest.raises(Unauthorized, match="URL"):
        fixed().admit(headers(("x-api-key", FIXED)), f"{CHAT}?key={FIXED}")


async def test_a_virtual_key_stands_for_its_tenant(virtual):
    assert virtual.admit(headers(("x-api-key", key_of("alice"))), CHAT)[0] == Caller("tenant-alice")
    with pytest.raises(Unauthorized, match="revoked"):
        virtual.admit(headers(("x-api-key", key_of("bob"))), CHAT)


def test_while_the_virtual_keys_have_never_been_read_whoever_shows_one_is_asked_to_come_back():
    door = Door([("", FIXED)], Kept(), now=lambda: NOW)
    assert door.admit(headers(("x-api-key", "another"), ("api-key", FIXED)), CHAT)[0] == Caller()
    with pytest.raises(PortUnavailable, match="the store is away"):
        door.admit(headers(("x-api-key", "another")), CHAT)
    with pytest.raises(Unauthorized, match="asks for a key"):
        door.admit(headers(), CHAT)


async def test_a_key_holds_until_it_expires_and_then_says_so(virtual, clock):
    clock.now = NOW + 59.9
    assert virtual.admit(headers(("x-api-key", key_of("alice"))), CHAT)
    clock.now = NOW + 60
    with pytest.raises(Unauthorized, match="expired"):
        virtual.admit(headers(("x-api-key", key_of("alice"))), CHAT)


async def test_keys_of_both_kinds_are_taken():
    door = Door([("", FIXED)], Kept("alice"), now=lambda: NOW)
    await door.load()
    assert door.admit(headers(("api-key", FIXED)), CHAT)[0] == Caller()
    assert door.admit(headers(("api-key", key_of("alice"))), CHAT)[0] == Caller("tenant-alice")


async def test_keys_are_read_again_only_when_they_changed(clock):
    kept = Kept("alice")
    door = Door([], kept, now=clock)
    for _ in range(3):
        await door.load()
    assert (kept.asked, kept.read) == (3, 1)


async def test_no_keys_at_all_are_worth_a_warning(clock, caplog):
    with caplog.at_level(logging.WARNING):
        await Door([], Kept(), now=clock).load()
    assert "keys create" in caplog.text


@pytest.fixture
def soon(monkeypatch):
    monkeypatch.setattr(auth, "POLL_S", 0)


def opens(door, name):
    try:
        return bool(door.admit(headers(("x-api-key", key_of(name))), CHAT))
    except Unauthorized:
        return False


async def test_keys_that_come_and_go_are_followed(clock, soon):
    kept = Kept("alice")
    door = Door([], kept, now=clock)
    await door.load()
    async with TaskSet("test") as tasks:
        tasks.start(door.follow(), name="keys")
        kept.names = ["bob"]
        await until(lambda: opens(door, "bob"))
        assert not opens(door, "alice")


async def test_while_the_store_is_away_the_keys_stay_and_one_warning_says_so(clock, soon, caplog):
    kept = Kept("alice")
    door = Door([], kept, now=clock)
    await door.load()
    async with TaskSet("test") as tasks:
        tasks.start(door.follow(), name="keys")
        with caplog.at_level(logging.WARNING):
            kept.failing, asked = True, kept.asked
            await until(lambda: kept.asked > asked + 3)
            assert opens(door, "alice")
        assert caplog.text.count("cannot be read") == 1
        kept.failing, kept.names = False, ["bob"]
        await until(lambda: opens(door, "bob"))


def test_keys_are_polled_well_within_a_second():
    assert auth.POLL_S <= 0.5


# --- at the socket


@pytest.fixture
async def guarded(serve):
    async def answer(incoming):
        return Whole(200, [], repr((incoming.caller, sorted(incoming.headers))).encode())

    return await serve(answer, door=fixed(("research", FIXED)))


async def test_the_flow_is_told_the_caller_and_never_the_key(guarded, session):
    base, flow = guarded
    async with session.get(f"{base}/v1/models", headers={"Authorization": f"Bearer {FIXED}"}) as response:
        assert response.status == 200
    (incoming,) = flow.incoming
    assert incoming.caller == Caller("research")
    assert FIXED not in str(list(incoming.headers.items()))


@pytest.mark.parametrize(
    ("path", "sent", "kind"),
    [
        ("/v1/chat/completions", {}, None),
        ("/openai/v1/models", {}, None),
        ("/v1/messages", {}, "error"),
        ("/anthropic/v1/messages", {}, "error"),
        ("/v1/models", {"anthropic-version": "2023-06-01"}, "error"),
    ],
)
async def test_others_get_a_401_in_their_dialect_before_anything_is_read(guarded, session, path, sent, kind):
    base, flow = guarded
    async with session.post(f"{base}{path}", headers=sent, data=b"x" * 100_000) as response:
        told = await response.json()
        assert response.status == 401
        assert response.headers["WWW-Authenticate"] == "Bearer"
    assert told.get("type") == kind
    assert told["error"]["code"] == "cacheproxy_unauthorized"
    assert told["error"]["type"] == "authentication_error"
    assert flow.incoming == []


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
async def test_probes_need_no_key(guarded, session, path):
    base, _ = guarded
    async with session.get(f"{base}{path}") as response:
        assert response.status == 200


async def test_feedback_needs_a_key(guarded, session):
    base, _ = guarded
    async with session.post(f"{base}/cacheproxy/feedback", json={}) as response:
        assert response.status == 401
