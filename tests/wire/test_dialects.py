"""Which paths are cached, and by which dialect."""

import pytest

from cacheproxy.wire.dialects import DIALECTS, dialect_of, plain_path

AZURE = {
    "/openai/deployments/my-gpt/chat/completions": "/v1/chat/completions",
    "/openai/deployments/ada%2F2/embeddings": "/v1/embeddings",
    "/openai/v1/responses": "/v1/responses",
    "/openai/v1/responses/resp_1": "/v1/responses/resp_1",
}


@pytest.mark.parametrize("path", DIALECTS)
def test_a_cached_path_has_the_dialect_of_the_table(path):
    assert dialect_of(path) is DIALECTS[path]


@pytest.mark.parametrize(("path", "plain"), AZURE.items())
def test_azures_path_is_the_plain_one_elsewhere(path, plain):
    assert plain_path(path) == plain
    assert dialect_of(path) is DIALECTS.get(plain)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat/completions/x",
        "/chat/completions",
        "/openai/deployments/a/b/chat/completions",
        "/openai/deployments//chat/completions",
        "/openai/deployments/my-gpt/audio/speech",
        "/x/openai/v1/chat/completions",
    ],
)
def test_any_other_path_has_none(path):
    assert dialect_of(path) is None
