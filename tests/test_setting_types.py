from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from cacheproxy.address import Address
from cacheproxy.model import Mode
from cacheproxy.setting_types import CacheMode, HeaderName, Listen, Pattern, Size, StoreUrl, Url


def read(kind, value):
    return TypeAdapter(kind).validate_python(value)


@pytest.mark.parametrize("word", [False, "off", "OFF"])
def test_yaml_reading_off_as_false_is_understood(word):
    assert read(CacheMode, word) is Mode.OFF


@pytest.mark.parametrize("size", [67_108_864, "64MiB", "64 mib"])
def test_sizes_may_be_written_with_their_unit(size):
    assert read(Size, size) == 67_108_864


@pytest.mark.parametrize("url", ["https://llm.example/v1", "https://llm.example/v1/"])
def test_a_base_url_has_no_slash_at_its_end(url):
    assert read(Url, url) == "https://llm.example/v1"


def test_an_address_is_read_from_text_and_written_as_text():
    adapter = TypeAdapter(Listen)
    assert adapter.validate_python("[::1]:80") == Address("::1", 80)
    assert adapter.dump_python(Address("::1", 80)) == "[::1]:80"


def test_header_names_are_told_apart_in_lower_case():
    assert read(HeaderName, "X-Tenant") == "x-tenant"


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        pytest.param(StoreUrl, "rediss://localhost?tls=1&x=1", "no option x", id="redis-with-an-unknown-option"),
        pytest.param(StoreUrl, "sqlite:///", "four slashes", id="store-without-path"),
        pytest.param(Url, "llm.example/v1", "must be a base URL", id="url-without-scheme"),
        pytest.param(Url, "https://u:p@llm.example/v1", "user or password", id="url-with-password"),
        pytest.param(Url, "https://llm.example/v1#x", "query or fragment", id="url-with-fragment"),
        pytest.param(Pattern, "a(", "is no regular expression", id="regular-expression"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason(kind, value, words):
    with pytest.raises(ValidationError, match=words):
        read(kind, value)
