from __future__ import annotations

import pytest
from pydantic import ValidationError

from cacheproxy.redis_settings import RedisSettings


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({"prefix": "a{b}"}, id="a prefix with a hash tag"),
        pytest.param({"prefix": "a b"}, id="a prefix with a space"),
        pytest.param({"shards": 0}, id="no shard"),
        pytest.param({"answer_s": 0}, id="no time to answer"),
        pytest.param({"retries": -1}, id="fewer than no retries"),
        pytest.param({"password": ""}, id="an empty password"),
    ],
)
def test_what_makes_no_sense_is_refused(values):
    with pytest.raises(ValidationError):
        RedisSettings.model_validate(values)


def test_secrets_are_not_in_the_repr():
    assert "hush" not in repr(RedisSettings.model_validate({"password": "hush", "secret": "hush"}))
