from __future__ import annotations

from cacheproxy.address import Address
from cacheproxy.cli.serve import banner
from cacheproxy.settings import Settings
from cacheproxy.workers.serving import Serving


def told(*, model: str = "m on cpu", no_model: str = "") -> str:
    serving = Serving(
        data=Address("127.0.0.1", 8090),
        admin=Address("::1", 8091),
        upstream_url="https://llm.example/v1",
        store="sqlite x.db",
        model=model,
        no_model=no_model,
        settings=Settings(policy="threshold", threshold=0.97),
    )
    return banner(serving)


def test_the_banner_tells_where_what_and_how():
    text = told()
    for part in (
        "http://127.0.0.1:8090/v1",
        "http://[::1]:8091",
        "https://llm.example/v1",
        "sqlite x.db",
        "m on cpu",
        "semantic, threshold 0.97",
        "curl -i http://127.0.0.1:8090/v1/chat/completions",
    ):
        assert part in text


def test_the_banner_says_when_there_is_no_model():
    assert "none, exact only: the weights are not there" in told(model="", no_model="the weights are not there")


def test_the_banner_tells_of_workers_where_there_are_several():
    serving = Serving(
        Address("127.0.0.1", 8090), Address("::1", 8091), "u", "s", "m on cpu", "", Settings(workers=3, mode="exact")
    )
    assert "workers      3" in banner(serving)
    assert "workers" not in told()
