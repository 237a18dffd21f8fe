"""Who asks, and who answers behind the proxy: wrk and nginx, which leave the cores to what is measured, or our own.

On a machine of few cores what asks and answers decides how many requests a second fit beside it. A request costs wrk
half of what it costs our own load generator, a quarter where each question is new; most of that is the kernel's, so a
lighter one would gain little. nginx takes a fifth of our own upstream's time.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import resource
import shutil
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from hot_path import YARDSTICKS, respaced
from load import ANSWER, Arm, body, questions

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Sequence
    from pathlib import Path

    from hot_path import Servers

STORED: Final = 200
"""So many questions are asked again and again by the hits."""
_DIGITS: Final = 10
_FRESH: Final = "@" * _DIGITS
"""Where the number goes that makes a question one that was never asked."""
_RESPACED: Final = "#" * (8 * _DIGITS)
"""Where the number goes in blanks, which make another text of the same words."""
_EACH: Final = 100_000_000
"""Numbers for each of wrk's threads, which know nothing of each other."""

_SCRIPT: Final = f"""
local threads = 0
function setup(thread)
  thread:set("first", threads * {_EACH})
  threads = threads + 1
end

local asked, blanks, at = {{}}, {{}}, 0
function init(args)
  at = first
  for digit = 0, 9 do
    local written = ""
    for bit = 0, 3 do written = written .. (math.floor(digit / 2 ^ bit) % 2 == 1 and "\\\\t" or "  ") end
    blanks[tostring(digit)] = written
  end
  wrk.headers["Content-Type"] = "application/json"
  wrk.headers["Authorization"] = "Bearer benchmark"
  for line in io.lines(args[1]) do
    local whole = wrk.format("POST", "/v1/chat/completions", nil, line)
    local from, to = whole:find("{_FRESH}", 1, true)
    local respaced = not from
    if respaced then from, to = whole:find("{_RESPACED}", 1, true) end
    asked[#asked + 1] = from and {{whole:sub(1, from - 1), whole:sub(to + 1), respaced}} or whole
  end
end
function request()
  at = at + 1
  local parts = asked[at % #asked + 1]
  if type(parts) == "string" then return parts end
  local number = string.format("%0{_DIGITS}d", at)
  if parts[3] then number = number:gsub("%d", blanks) end
  return parts[1] .. number .. parts[2]
end
function done(summary, latency)
  local errors = summary.errors
  print(string.format(
    '{{"requests": %d, "seconds": %f, "p50_ms": %f, "failed": %d}}',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""

_CONFIGURATION: Final = """
daemon off; master_process off; error_log stderr crit; pid {folder}/nginx.pid;
events {{ worker_connections 4096; }}
http {{
  access_log off; default_type application/json; keepalive_requests 1000000000;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{ listen 127.0.0.1:{port} backlog=1024; location / {{ return 200 '{answer}'; }} }}
}}
"""


class Asked(StrEnum):
    """What is asked."""

    STORED = "stored"
    SIMILAR = "similar"
    """The words of one that is stored, spaced as they never were since the generator was made."""
    NEW = "new"
    """Never asked since the generator was made."""


class Pressed(NamedTuple):
    """What was answered as it should be, in what time, and the processor time that asking took."""

    requests: int
    seconds: float
    p50_ms: float
    cpu_s: float


class Generator(Protocol):
    """Asks as fast as it is answered."""

    name: str

    def start_upstream(self, servers: Servers, port: int) -> subprocess.Popen[str]:
        """The same answer to everything."""

    async def press(self, port: int, asked: Asked, *, concurrency: int, seconds: float) -> Pressed:
        """Ask for so long on so many connections."""


class Own:
    """What the other benchmarks use."""

    name = "python"

    def __init__(self) -> None:
        numbers = itertools.count(1)
        self._bodies = {
            Asked.STORED: itertools.cycle(stored()),
            Asked.SIMILAR: (body(respaced(text, number)) for number in numbers for text in questions()[:STORED]),
            Asked.NEW: (body(f"{text} {number}") for number in numbers for text in questions()),
        }

    def start_upstream(self, servers: Servers, port: int) -> subprocess.Popen[str]:
        """See ``Generator``."""
        return servers.start(sys.executable, YARDSTICKS, "stub", str(port))

    async def press(self, port: int, asked: Asked, *, concurrency: int, seconds: float) -> Pressed:
        """See ``Generator``."""
        arm = Arm(asked, port, self._bodies[asked])
        before = _cpu_s(resource.RUSAGE_SELF)
        await arm.measure(concurrency, seconds)
        rate = arm.rate(concurrency)
        return Pressed(round(rate * seconds), seconds, arm.p50(concurrency), _cpu_s(resource.RUSAGE_SELF) - before)


class Light:
    """wrk, with so many threads, and nginx, with what they read and write in ``folder``."""

    name = "wrk"

    def __init__(self, folder: Path, threads: int = 1) -> None:
        self._folder = folder
        self._threads = threads
        self._script = folder / "script.lua"
        self._script.write_text(_SCRIPT, "utf-8")
        self._bodies = {
            Asked.STORED: self._written("stored", stored()),
            Asked.SIMILAR: self._written("similar", [body(text + _RESPACED) for text in questions()[:STORED]]),
            Asked.NEW: self._written("new", [body(f"{text} {_FRESH}") for text in questions()]),
        }

    def _written(self, name: str, bodies: Sequence[bytes]) -> Path:
        path = self._folder / name
        path.write_bytes(b"\n".join(bodies) + b"\n")
        return path

    def start_upstream(self, servers: Servers, port: int) -> subprocess.Popen[str]:
        """See ``Generator``."""
        path = self._folder / "nginx.conf"
        path.write_text(_CONFIGURATION.format(folder=self._folder, port=port, answer=json.dumps(ANSWER)), "utf-8")
        return servers.start("nginx", "-p", str(self._folder), "-c", str(path))

    async def press(self, port: int, asked: Asked, *, concurrency: int, seconds: float) -> Pressed:
        """See ``Generator``."""
        command = ["wrk", "--threads", str(self._threads), "--connections", str(concurrency)]
        command += ["--duration", f"{round(seconds)}s", "--script", str(self._script)]
        command += [f"http://127.0.0.1:{port}", str(self._bodies[asked])]
        before = _cpu_s(resource.RUSAGE_CHILDREN)  # of those that ended: of this one alone, as the others live on
        wrk = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        told = json.loads((await wrk.communicate())[0].splitlines()[-1])
        if told["failed"]:
            raise AssertionError(f"wrk: {told['failed']} requests of {told['requests']} failed")
        return Pressed(told["requests"], told["seconds"], told["p50_ms"], _cpu_s(resource.RUSAGE_CHILDREN) - before)


def stored() -> list[bytes]:
    """What is asked again and again."""
    return [body(text) for text in questions()[:STORED]]


def missing() -> list[str]:
    """The programs that ``Light`` wants and that are not here."""
    return [program for program in ("wrk", "nginx") if shutil.which(program) is None]


def _cpu_s(who: int) -> float:
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime
