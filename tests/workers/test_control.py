"""The line between two processes: messages arrive whole and in order, and its end is noticed."""

import socket

import pytest

from cacheproxy.settings import Settings
from cacheproxy.workers.control import Control, packed, unpacked


@pytest.fixture
async def line():
    one, other = socket.socketpair()
    ends = await Control.over(one), await Control.over(other)
    yield ends
    for end in ends:
        await end.aclose()


async def test_messages_arrive_in_order_whatever_is_in_them(line):
    one, other = line
    one.say(ready=True, text="two\nlines")
    one.say(metrics="x" * 1_000_000)
    assert await other.hear() == {"ready": True, "text": "two\nlines"}
    assert (await other.hear())["metrics"] == "x" * 1_000_000


async def test_the_end_is_noticed(line):
    one, other = line
    one.say(last=1)
    await one.aclose()
    assert await other.hear() == {"last": 1}
    assert await other.hear() is None
    other.say(nobody="hears")


def test_settings_come_out_as_they_went_in_secrets_and_all():
    settings = Settings(workers=3, admin_token="s3cret", cache={"ttl_s": 5}, upstreams={"openai": {"api_key": "k"}})
    text = packed(settings)
    assert "s3cret" not in text
    assert unpacked(text) == settings
    assert unpacked(text).admin_token.get_secret_value() == "s3cret"
