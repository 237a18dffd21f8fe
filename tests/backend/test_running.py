from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from cacheproxy.address import Address
from cacheproxy.backend.loading import ModelOptions
from cacheproxy.backend.running import BackendOptions, open_backend, open_engine
from cacheproxy.backend.speculative import Drafting, SpeculativeEngine
from cacheproxy.errors import ConfigError


async def test_a_model_that_is_not_there_ends_it(tmp_path):
    options = BackendOptions(ModelOptions(str(tmp_path), device="cpu"), listen=Address("127.0.0.1", 0))
    with pytest.raises(ConfigError, match="cannot be loaded"):
        async with open_backend(options, now=lambda: 0.0):
            pass


async def test_an_address_in_use_is_told(model):
    options = BackendOptions(ModelOptions(model, device="cpu"), listen=Address("127.0.0.1", 0))
    async with open_backend(options, now=lambda: 0.0) as running:
        taken = BackendOptions(ModelOptions(model, device="cpu"), listen=running.address)
        with pytest.raises(ConfigError, match="choose another address"):
            async with open_backend(taken, now=lambda: 0.0):
                pass


async def test_drafting_puts_speculation_in_front(loaded, model, assistant):
    options = BackendOptions(ModelOptions(model, device="cpu"), drafting=Drafting(assistant=assistant))
    engine = await open_engine(loaded, options)
    assert isinstance(engine, SpeculativeEngine)
    await engine.aclose()


def test_the_command_serves_until_it_is_told_to_stop(model):
    command = [Path(sys.executable).with_name("cacheproxy"), "backend", model, "--listen", "127.0.0.1:0"]
    server = subprocess.Popen(
        [*command, "--name", "tiny", "--device", "cpu"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        told = server.stdout.readline()
        assert told.startswith("tiny on cpu in float32")
        url = told.rsplit(maxsplit=1)[-1]
        with urllib.request.urlopen(f"{url}/models") as response:
            assert b'"tiny"' in response.read()
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
    finally:
        server.kill()
        server.communicate()
