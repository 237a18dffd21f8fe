"""Building a proxy: everything is opened once and closed again, and what cannot be opened says what to do."""

from __future__ import annotations

import asyncio
import json
import stat
import subprocess
import sys

import aiohttp
import pytest

from cacheproxy.errors import ConfigError
from cacheproxy.lab.simulate import SimulateOptions, serving
from cacheproxy.opening import open_books, open_store
from cacheproxy.settings import Settings
from cacheproxy.store.sqlite import open_sqlite
from cacheproxy.wiring import open_proxy

HELLO = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello?"}]}


@pytest.fixture
def settings(tmp_path):
    """``settings(**changes)``: a proxy for this test alone, without a model."""

    def make(**changes):
        return Settings(
            **{
                "listen": "127.0.0.1:0",
                "admin_listen": "127.0.0.1:0",
                "upstream_url": "http://127.0.0.1:9/v1",
                "data_dir": tmp_path / "data",
                "mode": "exact",
                "deadlines": {"store_ms": 20_000, "drain_s": 1},
                **changes,
            }
        )

    return make


@pytest.fixture
async def session():
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
        yield session


async def status_of(session, running):
    """What the cache says of one chat completion."""
    url = f"http://{running.data}/v1/chat/completions"
    async with session.post(url, json=HELLO, headers={"Authorization": "Bearer k"}) as response:
        assert response.status == 200, await response.text()
        return response.headers["X-Cache-Status"]


async def test_it_serves_on_both_addresses_and_tells_what_it_is(session, settings, tmp_path):
    async with open_proxy(settings()) as running:
        async with session.get(f"http://{running.data}/readyz") as response:
            state = await response.json()
        async with session.get(f"http://{running.admin}/metrics") as response:
            assert "cacheproxy_entries 0.0" in await response.text()

    assert running.data != running.admin
    assert running.upstream_url == "http://127.0.0.1:9/v1"
    assert str(tmp_path / "data") in running.store
    assert (running.model, running.no_model) == ("", "mode exact needs none")
    assert state["semantic"] == "off"
    assert state["breakers"].keys() == {"store", "store-writes", "index", "embedder", "judge"}


async def test_answers_the_ledger_and_the_secret_outlive_it(session, settings):
    async with serving(SimulateOptions(port=0)) as url:
        async with open_proxy(settings(upstream_url=url)) as running:
            assert [await status_of(session, running) for _ in range(2)] == ["Miss", "Hit"]
        async with open_proxy(settings(upstream_url=url)) as running:
            assert await status_of(session, running) == "Hit"  # at once: the credential's proof was kept too
    async with open_store(settings()) as store:
        assert await store.count() == 1
    async with open_books(settings()) as (ledger, _):
        tallies = await ledger.tallies(["status"])
    assert {tally.group["status"]: tally.requests for tally in tallies} == {"Hit": 2, "Miss": 1}


async def test_the_address_is_free_again_after_closing(settings):
    async with open_proxy(settings()) as running:
        pass
    async with open_proxy(settings(listen=str(running.data), admin_listen=str(running.admin))) as again:
        assert (again.data, again.admin) == (running.data, running.admin)


async def test_nothing_runs_on_after_closing(session, settings):
    before = asyncio.all_tasks()
    async with serving(SimulateOptions(port=0)) as url, open_proxy(settings(upstream_url=url)) as running:
        await status_of(session, running)
    assert {
        task.get_name() for task in asyncio.all_tasks() - before if task.get_name().startswith(("flow", "upkeep"))
    } == set()


@pytest.mark.parametrize("which", ["listen", "admin_listen"])
async def test_an_address_that_is_taken_leaves_nothing_open(settings, which):
    async with open_proxy(settings()) as running:
        taken = {which: str(running.data)}
        with pytest.raises(ConfigError, match="choose another address"):
            async with open_proxy(settings(**taken)):
                pass
    async with open_proxy(settings(listen=str(running.data))):
        pass


async def test_the_secret_is_its_owners_alone_and_stays(settings, tmp_path):
    file = tmp_path / "data" / "secret"
    async with open_proxy(settings()):
        first = file.read_bytes()
    async with open_proxy(settings()):
        assert file.read_bytes() == first
    assert len(first) == 32
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("content", [b"", b"short", bytes(33)])
async def test_a_secret_that_is_none_is_an_error_that_says_what_to_do(settings, tmp_path, content):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "secret").write_bytes(content)
    with pytest.raises(ConfigError, match="delete it"):
        async with open_proxy(settings()):
            pass


async def test_a_data_directory_that_cannot_be_is_an_error_that_says_what_to_do(settings, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="file"):
        async with open_proxy(settings(data_dir=tmp_path / "file" / "data")):
            pass


async def test_the_store_can_lie_elsewhere(session, settings, tmp_path):
    path = tmp_path / "elsewhere" / "db.sqlite3"
    async with (
        serving(SimulateOptions(port=0)) as url,
        open_proxy(settings(upstream_url=url, store=f"sqlite:///{path}")) as running,
    ):
        await status_of(session, running)
    async with open_sqlite(path, clock=lambda: 0.0) as store:
        assert await store.count() == 1


async def test_a_model_that_is_not_there_leaves_the_exact_layer(settings, caplog):
    async with open_proxy(settings(mode="semantic", embedding_model="/nowhere/model")) as running:
        assert running.model == ""
        assert "/nowhere/model" in running.no_model
    assert "no embedding model" in caplog.text


async def test_a_device_that_is_not_there_is_refused(settings):
    elsewhere = "mps" if sys.platform == "linux" else "cuda"
    with pytest.raises(ConfigError, match="device"):
        async with open_proxy(settings(mode="semantic", device=elsewhere)):
            pass


async def test_the_admin_token_is_asked_for(session, settings):
    async with open_proxy(settings(admin_token="s3cret")) as running:
        for headers, status in (({}, 401), ({"Authorization": "Bearer s3cret"}, 200)):
            async with session.get(f"http://{running.admin}/metrics", headers=headers) as response:
                assert response.status == status


COMMANDS_NEED_NO_TORCH = """
import asyncio, sys, json
from pathlib import Path
import cacheproxy.cli, cacheproxy.wiring as wiring
from cacheproxy.settings import Settings

async def main():
    settings = Settings(mode="exact", data_dir=Path(sys.argv[1]), listen="127.0.0.1:0", admin_listen="127.0.0.1:0")
    async with wiring.open_proxy(settings):
        pass

asyncio.run(main())
print(json.dumps([name for name in ("torch", "transformers", "sentence_transformers") if name in sys.modules]))
"""


def test_a_proxy_without_a_model_starts_without_torch(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS_NEED_NO_TORCH, tmp_path / "data"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []
