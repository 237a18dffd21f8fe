from __future__ import annotations

import pytest

from cacheproxy.address import Address
from cacheproxy.backend.running import Running
from cacheproxy.cli.app import run
from cacheproxy.cli.backend import banner


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--quantize", "int2"], "--quantize: 'int2' is none of none, int8, int4"),
        (["--dtype", "float8"], "--dtype"),
        (["--listen", "nowhere"], "--listen"),
    ],
)
def test_what_is_wrong_is_told_with_its_flag(arguments, words, capsys):
    assert run(["backend", "/no/model", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_a_missing_model_is_one_line(capsys):
    assert run(["backend", "/no/model", "--listen", "127.0.0.1:0", "--device", "cpu"]) == 1
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("cacheproxy: model /no/model cannot be loaded")


def test_the_banner_says_how_to_put_a_proxy_in_front():
    text = banner(Running(Address("127.0.0.1", 8100), "tiny", "cpu", "float32", 3 << 20, 512))
    assert "tiny on cpu in float32, 3 MiB of weights, 512 tokens of context: http://127.0.0.1:8100/v1" in text
    assert "cacheproxy serve --upstream-url http://127.0.0.1:8100/v1" in text
