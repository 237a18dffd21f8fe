import pytest

from cacheproxy.wire.openai_errors import error_body, error_type


def test_an_error_has_the_four_members_that_clients_read():
    assert error_body(400, "cacheproxy_bad_request", "messages must be an array") == {
        "error": {
            "message": "messages must be an array",
            "type": "invalid_request_error",
            "param": None,
            "code": "cacheproxy_bad_request",
        }
    }


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (413, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (502, "api_error"),
        (504, "api_error"),
    ],
)
def test_the_type_follows_the_status(status, kind):
    assert error_type(status) == kind
