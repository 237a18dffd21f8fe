"""What can be set about telling. That nothing leaves the house unasked is a promise."""

import pytest

from cacheproxy.log_settings import LogSettings, TelemetrySettings


def test_by_default_nothing_is_sent_and_no_question_is_logged():
    telemetry, log = TelemetrySettings(), LogSettings()
    assert (telemetry.traces, telemetry.metrics, telemetry.exemplars) == (False, False, False)
    assert (log.requests, log.prompts) == (False, False)


@pytest.mark.parametrize("level", ["DEBUG", "Info"])
def test_words_are_taken_in_any_case(level):
    assert LogSettings(level=level, format="JSON").level == level.lower()


@pytest.mark.parametrize("endpoint", ["collector:4318", "http://user:secret@collector:4318", "grpc://collector:4317"])
def test_an_endpoint_is_a_plain_http_url(endpoint):
    with pytest.raises(ValueError, match="endpoint"):
        TelemetrySettings(endpoint=endpoint)
