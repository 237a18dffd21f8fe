"""Every error of ours, in every dialect, is that provider's error: its clients parse it, and it keeps our code."""

from __future__ import annotations

import json

import anthropic
import httpx
import openai
import pytest

from cacheproxy import errors
from cacheproxy.errors import ProxyError
from cacheproxy.flow.render import failure
from cacheproxy.wire.dialects import DIALECTS, dialect_for_errors
from cacheproxy.wire.sse import SseParser

ERRORS = sorted(
    (kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ProxyError)),
    key=lambda kind: kind.__name__,
)
MESSAGE = 'What went wrong, "quoted", ünïcode: and what to do.'
OPENAI = [path for path in DIALECTS if path != "/v1/messages"]
ANTHROPIC_TYPES = {
    "authentication_error",
    "invalid_request_error",
    "not_found_error",
    "request_too_large",
    "api_error",
    "timeout_error",
    "overloaded_error",
}
"""Those of Anthropic's API reference that a ProxyError may stand for."""

every_error = pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)


def rendered(kind, path, **more):
    return failure(DIALECTS[path], kind(MESSAGE, **more))


def raised(client, reply):
    """What the provider's own client raises for a reply."""
    response = httpx.Response(
        reply.status,
        headers=list(reply.headers),
        content=reply.body,
        request=httpx.Request("POST", "https://llm.example/v1"),
    )
    return client._make_status_error_from_response(response)


@every_error
@pytest.mark.parametrize("path", OPENAI)
def test_openais_client_reads_it(kind, path):
    client = openai.OpenAI(api_key="k")
    error = raised(client, rendered(kind, path))

    assert isinstance(error, openai.APIStatusError)
    assert error.status_code == kind.status
    assert error.code == kind.code
    assert MESSAGE in error.message
    assert error.type
    assert error.body.keys() == {"message", "type", "param", "code"}


@every_error
def test_anthropics_client_reads_it(kind):
    client = anthropic.Anthropic(api_key="k")
    error = raised(client, rendered(kind, "/v1/messages"))

    assert isinstance(error, anthropic.APIStatusError)
    assert error.status_code == kind.status
    assert error.body["type"] == "error"
    assert error.body["error"]["message"] == MESSAGE
    assert error.body["error"]["code"] == kind.code
    assert error.body["error"]["type"] in ANTHROPIC_TYPES


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(errors.BadRequest, openai.BadRequestError), (errors.UnknownUpstream, openai.NotFoundError)],
)
def test_the_status_chooses_the_clients_exception(ours, theirs):
    assert isinstance(raised(openai.OpenAI(api_key="k"), rendered(ours, "/v1/chat/completions")), theirs)


@every_error
@pytest.mark.parametrize("path", DIALECTS)
def test_in_mid_stream_it_is_an_event_of_the_dialect(kind, path):
    event = DIALECTS[path].error_event(kind.status, kind.code, MESSAGE)
    (parsed,) = SseParser().feed(event.encode())
    told = json.loads(parsed.data)
    error = told.get("error", told)

    assert error["message"] == MESSAGE
    assert error["code"] == kind.code
    if path == "/v1/messages":
        assert (parsed.event, told["type"]) == ("error", "error")


@pytest.mark.parametrize(("after_s", "header"), [(0.2, "1"), (2.6, "3"), (30, "30")])
@pytest.mark.parametrize("path", DIALECTS)
def test_when_to_come_back_is_told_in_whole_seconds(path, after_s, header):
    reply = rendered(errors.Overloaded, path, retry_after_s=after_s)
    assert dict(reply.headers)["Retry-After"] == header


@pytest.mark.parametrize(
    ("headers", "path"),
    [({}, "/v1/chat/completions"), ({"anthropic-version": "2023-06-01"}, "/v1/messages")],
)
def test_before_the_path_is_understood_the_headers_choose_the_dialect(headers, path):
    assert dialect_for_errors(headers) is DIALECTS[path]
