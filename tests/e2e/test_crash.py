"""Crashes and broken disks: what was answered is kept, half an answer never serves, and every request is answered."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import sqlite3
import stat
import subprocess
from random import Random

import aiohttp
import pytest

from cacheproxy.lab.simulate import SimulateOptions, serving

CHAT = "/v1/chat/completions"
STORED = "SELECT COUNT(*) FROM entries"


@pytest.fixture(scope="module")
def talking(host):
    """A simulated upstream that takes its time, so that a crash finds answers half told."""
    with host.open(serving(SimulateOptions(port=0, delay_ms=2, tokens_per_s=400))) as url:
        yield url


def database(tmp_path):
    return tmp_path / "data" / "cacheproxy.sqlite3"


def rows(path, question):
    """What the database holds, asked beside the running proxy."""
    connection = sqlite3.connect(path, timeout=30)
    try:
        return connection.execute(question).fetchall()
    finally:
        connection.close()


def change(path, *statements):
    connection = sqlite3.connect(path, timeout=30)
    try:
        with connection:
            for statement in statements:
                connection.execute(statement)
    finally:
        connection.close()


def stored(tmp_path):
    return rows(database(tmp_path), STORED)[0][0]


async def whole(http, base, question, **members):
    told = await http.ask(question, base=base, **members)
    assert told.status == 200
    return told


@pytest.mark.parametrize("seed", range(3))
async def test_a_kill_at_any_moment_loses_at_most_what_was_in_flight(spawn, http, talking, tmp_path, seed, until):
    """Under load, at a moment drawn from the seed; then on the same data directory again."""
    random = Random(seed)
    first = spawn("serve", "--mode", "exact", "--upstream-url", talking)
    base = first.served().url
    truth = {}

    async def keep_asking(number):
        for round_number in range(1000):
            question = f"Question {number} of round {round_number}?"
            try:
                told = await http.ask(question, base=base, stream=bool((number + round_number) % 2))
            except (aiohttp.ClientError, ConnectionError):
                return
            if told.status == 200 and (told.headers["Content-Type"] == "application/json" or b"[DONE]" in told.body):
                truth[question] = told.text

    callers = [asyncio.ensure_future(keep_asking(number)) for number in range(8)]
    await until(lambda: len(truth) >= 5)
    durable = set(truth)
    await until(lambda: stored(tmp_path) >= len(durable) + len(callers))  # they are written in their order
    await asyncio.sleep(random.uniform(0, 0.15))  # the moment is the point
    first.kill()
    await asyncio.gather(*callers)

    again = spawn("serve", "--mode", "exact", "--upstream-url", talking)
    base = again.served().url
    for question, text in truth.items():
        told = await whole(http, base, question)
        assert told.text == text
        assert told.cache == ("Hit", "exact") or question not in durable
    assert again.terminate() == 0


async def test_a_stream_cut_by_a_kill_is_never_served(spawn, http, talking):
    first = spawn("serve", "--mode", "exact", "--upstream-url", talking)
    base = first.served().url
    await whole(http, base, "Am I known?")
    headers = {"Authorization": f"Bearer {http.key}"}
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Cut me?"}], "stream": True}
    answer = await http.session.post(base + CHAT, json=body, headers=headers)
    await answer.content.readuntil(b"\n\n")
    first.kill()
    answer.close()

    base = spawn("serve", "--mode", "exact", "--upstream-url", talking).served().url
    told = await whole(http, base, "Cut me?")
    assert told.cache == ("Miss", "no-entry")
    assert told.text.endswith(".") or told.text.endswith("?")


async def test_sigterm_lets_a_stream_finish_and_keeps_it(spawn, http, talking):
    first = spawn("serve", "--mode", "exact", "--upstream-url", talking)
    base = first.served().url
    await whole(http, base, "Am I known?")
    headers = {"Authorization": f"Bearer {http.key}"}
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Finish me?"}], "stream": True}
    answer = await http.session.post(base + CHAT, json=body, headers=headers)
    await answer.content.readuntil(b"\n\n")
    ending = asyncio.ensure_future(asyncio.to_thread(first.terminate))
    told = await answer.read()

    assert told.endswith(b"data: [DONE]\n\n")
    assert await ending == 0
    base = spawn("serve", "--mode", "exact", "--upstream-url", talking).served().url
    assert (await whole(http, base, "Finish me?")).cache == ("Hit", "exact")


def damage(path):
    """Turn over a byte in the middle of every stored answer."""
    for number, payload in rows(path, "SELECT number, payload FROM payloads"):
        broken = bytearray(payload)
        broken[len(broken) // 2] ^= 0xFF
        change(path, f"UPDATE payloads SET payload = x'{broken.hex()}' WHERE number = {number}")


async def test_a_corrupt_row_is_a_miss_and_heals(serve_proxy, simulated, http, tmp_path, until):
    base = serve_proxy(f"{simulated}/v1", cache={"l1_bytes": 0}).url
    await whole(http, base, "Am I known?")
    first = await whole(http, base, "Damaged?")
    await until(lambda: stored(tmp_path) == 2)
    assert (await whole(http, base, "Damaged?")).cache == ("Hit", "exact")
    damage(database(tmp_path))
    damaged = set(rows(database(tmp_path), "SELECT payload FROM payloads"))

    told = await whole(http, base, "Damaged?")
    assert told.cache[0] == "Miss"
    assert told.text == first.text
    # Without memory in front an answer is found once it is committed, which may be after it was told.
    await until(lambda: not damaged.issuperset(rows(database(tmp_path), "SELECT payload FROM payloads")))
    assert (await whole(http, base, "Damaged?")).cache == ("Hit", "exact")


@pytest.mark.parametrize("where", ["its head", "its middle"])
async def test_a_corrupt_database_is_set_aside_and_the_start_works(spawn, http, simulated, tmp_path, where):
    first = spawn("serve", "--mode", "exact", "--upstream-url", f"{simulated}/v1")
    base = first.served().url
    await whole(http, base, "Before?")
    first.terminate()
    path = database(tmp_path)
    content = bytearray(path.read_bytes())
    if where == "its head":
        content[:100] = b"\xde\xad\xbe\xef" * 25
    else:
        content[4096 : len(content)] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)

    again = spawn("serve", "--mode", "exact", "--upstream-url", f"{simulated}/v1")
    base = again.served().url
    await whole(http, base, "Am I known?")
    await whole(http, base, "After?")
    assert (await whole(http, base, "After?")).cache == ("Hit", "exact")
    assert list(path.parent.glob("*.corrupt-*"))
    assert any("damaged" in line for line in again.log)


async def test_a_database_damaged_while_it_is_used_is_a_slow_cache_and_no_outage(
    serve_proxy, simulated, http, tmp_path
):
    base = serve_proxy(f"{simulated}/v1", cache={"l1_bytes": 0}).url
    for number in range(20):
        await whole(http, base, f"Number {number}?")
    change(database(tmp_path), "PRAGMA wal_checkpoint(TRUNCATE)")
    with database(tmp_path).open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        file.write(b"\xa5" * size)

    for number in range(20):
        assert f"Number {number}?" in (await whole(http, base, f"Number {number}?")).text


async def test_a_disk_that_takes_no_more_writes_is_no_outage(spawn, http, simulated, tmp_path, until):
    """As with one that turned read-only: the kernel refuses the process every write to a file from here on."""
    process = spawn("serve", "--mode", "exact", "--upstream-url", f"{simulated}/v1")
    served = process.served()
    await whole(http, served.url, "Am I known?")
    first = await whole(http, served.url, "First?")
    await until(lambda: stored(tmp_path) == 2)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1, 1))

    for number in range(10):
        assert (await whole(http, served.url, f"Number {number}?")).status == 200
    told = await whole(http, served.url, "First?")
    assert (told.cache, told.text) == (("Hit", "exact"), first.text)
    await until(lambda: served.metrics().get('cacheproxy_store_errors_total{op="store-writes.put"}', 0) > 0)
    assert served.ready()["status"] == "ready"
    assert process.terminate() == 0


needs_mount = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("mount") is None, reason="mounting a small file system needs root"
)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 2 MiB where the data directory is to be."""
    folder = tmp_path / "data"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m,mode=0700", "tmpfs", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a small file system: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@needs_mount
async def test_a_full_disk_is_no_outage(small_disk, spawn, http, simulated, tmp_path):
    process = spawn("serve", "--mode", "exact", "--upstream-url", f"{simulated}/v1")
    served = process.served()
    first = await whole(http, served.url, "First?")
    for number in range(150):  # over 3 MB that do not compress
        await whole(http, served.url, f"{Random(number).getrandbits(90_000):x}?")

    assert served.metrics().get('cacheproxy_store_errors_total{op="store-writes.put"}', 0) > 0
    assert (await whole(http, served.url, "First?")).text == first.text
    assert (await whole(http, served.url, "One more?")).status == 200
    assert process.terminate() == 0


async def test_the_data_directory_is_its_owners_alone(spawn, http, simulated, tmp_path):
    process = spawn("serve", "--mode", "exact", "--upstream-url", f"{simulated}/v1")
    await whole(http, process.served().url, "Private?")

    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
    for file in (tmp_path / "data").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file.name
