"""Which upstream a path goes to."""

import pytest

from cacheproxy.errors import UnknownUpstream
from cacheproxy.flow.routing import Routes, Target

ROUTES = Routes(
    {
        "default": Target("openai", "https://api.openai.example/v1"),
        "anthropic": Target("anthropic", "https://api.anthropic.example/v1"),
        "groq": Target("groq", "https://api.groq.example/openai/v1"),
        "odd": Target("odd", "https://odd.example/api"),
    }
)


@pytest.mark.parametrize(
    ("target", "anthropic", "url", "path", "query"),
    [
        ("/v1/chat/completions", False, "https://api.openai.example/v1/chat/completions", "/v1/chat/completions", ""),
        ("/v1/models?limit=2", False, "https://api.openai.example/v1/models", "/v1/models", "?limit=2"),
        ("/v1/messages", False, "https://api.anthropic.example/v1/messages", "/v1/messages", ""),
        (
            "/v1/messages/batches",
            False,
            "https://api.anthropic.example/v1/messages/batches",
            "/v1/messages/batches",
            "",
        ),
        ("/v1/models", True, "https://api.anthropic.example/v1/models", "/v1/models", ""),
        ("/groq/v1/models", False, "https://api.groq.example/openai/v1/models", "/v1/models", ""),
        ("/groq/v1", False, "https://api.groq.example/openai/v1", "/v1", ""),
        ("/groq/health", False, "https://api.groq.example/openai/health", "/health", ""),
        ("/odd/v1/x", False, "https://odd.example/api/x", "/v1/x", ""),
        ("/anthropic/v1/messages", False, "https://api.anthropic.example/v1/messages", "/v1/messages", ""),
        (
            "/v1/files/a%2Fb?x=%20&y=/v1/",
            False,
            "https://api.openai.example/v1/files/a%2Fb",
            "/v1/files/a%2Fb",
            "?x=%20&y=/v1/",
        ),
        ("/v1beta/models", False, "https://api.openai.example/v1beta/models", "/v1beta/models", ""),
        ("/", False, "https://api.openai.example/", "/", ""),
        ("/v1/x?", False, "https://api.openai.example/v1/x", "/v1/x", "?"),
    ],
)
def test_a_target_has_one_route(target, anthropic, url, path, query):
    route = ROUTES.resolve(target, anthropic=anthropic)
    assert (route.url, route.path, route.query) == (url, path, query)


@pytest.mark.parametrize("target", ["/nowhere/v1/chat/completions", "/nowhere/v1", "/default/v1/models"])
def test_an_unknown_name_is_told_with_the_known_ones(target):
    with pytest.raises(UnknownUpstream, match="anthropic, groq, odd"):
        ROUTES.resolve(target, anthropic=False)


def test_the_target_has_the_name_of_the_provider():
    assert ROUTES.resolve("/v1/models", anthropic=False).target.name == "openai"
    assert set(ROUTES.targets) == {"default", "anthropic", "groq", "odd"}


def test_our_own_paths_went_upstream_with_the_callers_key():
    with pytest.raises(UnknownUpstream, match="/cacheproxy/feedback"):
        ROUTES.resolve("/cacheproxy/feedback", anthropic=False)
