from __future__ import annotations

import pytest
from pydantic import ValidationError

from cacheproxy.local_settings import DistillSettings, EmbedderSettings, LocalSettings


def test_without_an_address_misses_and_questions_stay_where_they_were():
    assert (LocalSettings().url, EmbedderSettings().url) == (None, None)


def test_the_local_server_takes_every_model_and_nobody_whose_credential_is_unproven():
    assert (LocalSettings().models, LocalSettings().anyone) == (("*",), False)


def test_nobody_consents_unasked():
    assert DistillSettings().consenting_tenants == ()


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        pytest.param(LocalSettings, {"url": "127.0.0.1:8100"}, id="url-without-scheme"),
        pytest.param(LocalSettings, {"usd_per_gpu_hour": -1}, id="negative-price"),
        pytest.param(LocalSettings, {"output_tokens_per_s": 0}, id="no-speed"),
        pytest.param(EmbedderSettings, {"window_tokens": 0}, id="no-window"),
        pytest.param(EmbedderSettings, {"api_key": ""}, id="empty-key"),
        pytest.param(DistillSettings, {"tenants": ["a"]}, id="unknown-name"),
    ],
)
def test_what_makes_no_sense_is_refused(kind, values):
    with pytest.raises(ValidationError):
        kind.model_validate(values)


def test_keys_are_not_in_the_repr():
    assert "hush" not in repr(LocalSettings.model_validate({"api_key": "hush"}))
