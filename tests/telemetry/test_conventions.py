"""Names: what the conventions call things, whatever we call them."""

import pytest
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as theirs
from opentelemetry.semconv.attributes import error_attributes, http_attributes, server_attributes, url_attributes

from cacheproxy.events import Served
from cacheproxy.model import CacheStatus, Layer, Usage
from cacheproxy.telemetry import conventions as ours
from cacheproxy.wire.dialects import DIALECTS

SERVED = Served(
    at=1.0,
    dialect="openai-chat",
    upstream="openai",
    tenant="t",
    model="gpt-4o-2024",
    http_status=200,
    status=CacheStatus.MISS,
    duration_ms=1.0,
    usage=Usage(10, 20),
    cost_usd=0.5,
)


def test_the_names_are_those_of_the_conventions():
    assert {
        ours.OPERATION: theirs.GEN_AI_OPERATION_NAME,
        ours.PROVIDER: theirs.GEN_AI_PROVIDER_NAME,
        ours.REQUEST_MODEL: theirs.GEN_AI_REQUEST_MODEL,
        ours.RESPONSE_MODEL: theirs.GEN_AI_RESPONSE_MODEL,
        ours.STREAM: theirs.GEN_AI_REQUEST_STREAM,
        ours.INPUT_TOKENS: theirs.GEN_AI_USAGE_INPUT_TOKENS,
        ours.OUTPUT_TOKENS: theirs.GEN_AI_USAGE_OUTPUT_TOKENS,
        ours.TOKEN_TYPE: theirs.GEN_AI_TOKEN_TYPE,
        ours.ERROR: error_attributes.ERROR_TYPE,
        ours.METHOD: http_attributes.HTTP_REQUEST_METHOD,
        ours.STATUS_CODE: http_attributes.HTTP_RESPONSE_STATUS_CODE,
        ours.PATH: url_attributes.URL_PATH,
        ours.SERVER: server_attributes.SERVER_ADDRESS,
        ours.PORT: server_attributes.SERVER_PORT,
    }.items() <= {(name, name) for name in vars(ours).values() if isinstance(name, str)}


@pytest.mark.parametrize("dialect", {dialect.name for dialect in DIALECTS.values()})
def test_every_dialect_has_a_known_operation(dialect):
    assert ours.operation(dialect) in {value.value for value in theirs.GenAiOperationNameValues}


@pytest.mark.parametrize(
    ("upstream", "dialect", "provider"),
    [
        ("openai", "openai-chat", "openai"),
        ("default", "openai-chat", "openai"),
        ("default", "anthropic-messages", "anthropic"),
        ("anthropic", "anthropic-messages", "anthropic"),
        ("mistral", "openai-chat", "mistral_ai"),
        ("local", "openai-chat", "local"),
    ],
)
def test_a_provider_is_called_as_the_conventions_call_it(upstream, dialect, provider):
    assert ours.provider(upstream, dialect) == provider


def test_a_miss_tells_the_tokens_that_were_bought():
    told = ours.of_served(SERVED)
    assert (told["gen_ai.usage.input_tokens"], told["gen_ai.usage.output_tokens"]) == (10, 20)
    assert "cacheproxy.layer" not in told


def test_a_hit_tells_what_was_saved_and_no_tokens():
    hit = SERVED._replace(status=CacheStatus.HIT, layer=Layer.EXACT, usage=Usage(), saved_usage=Usage(10, 20))
    told = ours.of_served(hit)
    assert told["cacheproxy.saved_tokens"] == 30
    assert "gen_ai.usage.input_tokens" not in told


def test_an_unknown_price_is_no_price():
    assert "cacheproxy.cost_usd" not in ours.of_served(SERVED._replace(unpriced=True))
