"""Whether to send traffic here."""

from cacheproxy.server.readiness import Readiness


def test_it_is_ready_and_tells_its_state_as_it_is_now():
    state = {"semantic": "off"}
    ready = Readiness(lambda: state)
    assert ready() == (True, {"semantic": "off"})
    state["semantic"] = "on"
    assert ready() == (True, {"semantic": "on"})


def test_from_leaving_on_it_is_not():
    ready = Readiness(lambda: {"semantic": "on"})
    ready.leave()
    ready.leave()
    assert ready() == (False, {"why": "shutting down"})
