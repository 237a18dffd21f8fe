"""Errors of the admin plane have one shape."""

import json

from cacheproxy.server.refusal import refused


def test_an_error_has_a_status_a_code_and_a_message():
    response = refused(404, "not_found", "there is no “x”")
    assert (response.status, response.content_type) == (404, "application/json")
    assert json.loads(response.text) == {"error": {"code": "not_found", "message": "there is no “x”"}}
