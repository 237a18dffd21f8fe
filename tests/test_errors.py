"""Errors know their status and code, and foreign ones are translated where they enter."""

import pytest

from cacheproxy import errors
from cacheproxy.errors import PortUnavailable, ProxyError, TooLarge, UpstreamTimeout, translating

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ProxyError)]


def test_there_are_few():
    assert len(KINDS) <= 14


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_each_has_an_http_status_and_a_code_of_its_own(kind: type[ProxyError]):
    assert 400 <= kind.status < 600
    assert kind.code.startswith("cacheproxy_")
    assert sum(other.code == kind.code for other in KINDS) == 1
    assert str(kind("what to do")) == kind("what to do").message == "what to do"


def test_a_foreign_error_becomes_ours_and_says_what_was_tried():
    with (
        pytest.raises(PortUnavailable, match="read the store: disk on fire"),
        translating({OSError: PortUnavailable}, "read the store"),
    ):
        raise OSError("disk on fire")


def test_the_first_row_that_fits_wins():
    with (
        pytest.raises(UpstreamTimeout),
        translating({TimeoutError: UpstreamTimeout, OSError: PortUnavailable}, "ask"),
    ):
        raise TimeoutError


def test_ours_pass_as_they_are_and_unlisted_ones_too():
    with pytest.raises(TooLarge), translating({Exception: PortUnavailable}, "read"):
        raise TooLarge("too large")
    with pytest.raises(KeyError), translating({OSError: PortUnavailable}, "read"):
        raise KeyError("x")
