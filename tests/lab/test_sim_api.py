from __future__ import annotations

import pytest

from cacheproxy.lab.sim_api import error_body, named, unnamed


def test_events_are_written_with_and_without_a_name():
    assert named("ping", {"a": 1}).data == b'event: ping\ndata: {"type":"ping","a":1}\n\n'
    assert unnamed({"a": "ü\n"}).data == 'data: {"a":"ü\\n"}\n\n'.encode()


@pytest.mark.parametrize("status", [400, 404, 429, 500])
def test_errors_have_the_providers_shapes(status):
    assert set(error_body(status, "no", anthropic=False)["error"]) == {"message", "type", "param", "code"}
    anthropic = error_body(status, "no", anthropic=True)
    assert (anthropic["type"], set(anthropic["error"])) == ("error", {"type", "message"})
