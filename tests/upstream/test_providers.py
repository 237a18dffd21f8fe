from __future__ import annotations

import pytest
from yarl import URL

from cacheproxy.upstream.providers import PROVIDERS, Provider


@pytest.mark.parametrize("provider", PROVIDERS.values(), ids=PROVIDERS)
class TestEveryPreset:
    def test_has_a_base_url_that_a_path_can_be_appended_to(self, provider: Provider):
        url = URL(provider.base_url)
        assert url.scheme in {"http", "https"}
        assert url.host
        assert not provider.base_url.endswith("/")
        assert not url.query_string

    def test_sends_keys_over_tls_unless_it_is_on_this_machine(self, provider: Provider):
        url = URL(provider.base_url)
        assert url.scheme == ("http" if url.host == "127.0.0.1" else "https")

    def test_writes_the_key_into_its_header(self, provider: Provider):
        name, value = provider.credential("sk-1")
        assert name
        assert "sk-1" in value

    def test_has_a_name_that_can_be_a_path_segment(self, provider: Provider):
        assert provider.name.isalnum()
        assert provider.name == provider.name.lower()


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("openai", ("Authorization", "Bearer k")),
        ("anthropic", ("x-api-key", "k")),
        ("gemini", ("Authorization", "Bearer k")),
    ],
)
def test_the_key_goes_where_the_provider_looks_for_it(name, header):
    assert PROVIDERS[name].credential("k") == header
