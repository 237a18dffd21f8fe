"""The latest hits are at hand for whoever complains, in memory that does not grow."""

import pytest

from cacheproxy.core.policy import Forward
from cacheproxy.flow.lately import Lately
from cacheproxy.flow.recall import Recalled
from cacheproxy.model import Reason


class Request:
    """What is looked at of a request."""

    def __init__(self, tenant="tenant", size=0):
        self.tenant = tenant
        self.sent = self.raw = b"x" * size


@pytest.fixture
def hit(make_entry):
    return lambda name: Recalled(Forward(Reason.SHADOW), entry=make_entry(name))


def test_the_last_request_that_an_entry_answered_is_found(hit):
    lately, last = Lately(), Request()
    lately.served(Request(), hit("a"))
    lately.served(last, hit("a"))
    assert lately.of("id-a", "tenant")[0] is last
    assert lately.of("id-b", "tenant") is None


def test_a_tenant_finds_its_own_and_an_operator_any(hit):
    lately = Lately()
    lately.served(Request("theirs"), hit("a"))
    assert lately.of("id-a", "mine") is None
    assert lately.of("id-a", None)[0].tenant == "theirs"


def test_the_oldest_go_when_all_take_too_much(hit):
    lately = Lately(100_000)
    for name in "abcd":
        lately.served(Request(size=10_000), hit(name))
    assert [name for name in "abcd" if lately.of(f"id-{name}", None) is None] == ["a", "b"]


def test_one_that_is_larger_than_all_is_not_kept(hit):
    lately = Lately(10_000)
    lately.served(Request(size=100_000), hit("a"))
    lately.served(Request(), hit("b"))
    assert lately.of("id-a", None) is None
    assert lately.of("id-b", None) is not None
