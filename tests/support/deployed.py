"""What the files under deploy/ say, and the services in them started on this machine: no image, no engine.

A service gets exactly the command and the environment that its file gives it. What only exists inside containers is
mapped: host names and ports to free ones of loopback, /data and the like to folders of the test's own.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from dockerfile_parse import DockerfileParser

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
HOSTS = ("cacheproxy", "redis", "simulator", "backend", "127.0.0.1")
PORTS = ("8090", "8091", "8099", "8100", "6379")
PATIENCE_S = 90.0
"""How long anything is waited for that must come."""
_VARIABLE = re.compile(r"\$\$|\$\{(\w+)(?:(:[-?])([^}]*))?\}")
_ADDRESS = re.compile(rf"(?:\b({'|'.join(map(re.escape, HOSTS))}))?:({'|'.join(PORTS)})\b")


class Missing(Exception):
    """A variable that the compose file asks for is not set."""


def interpolated(value, variables):
    """The compose specification's interpolation, as far as our file uses it."""

    def one(match):
        if match[0] == "$$":
            return "$"
        name, operator, rest = match.groups()
        given = variables.get(name, "")
        if given or operator is None:
            return given
        if operator == ":?":
            raise Missing(f"{name}: {rest}")
        return rest

    match value:
        case str():
            return _VARIABLE.sub(one, value)
        case dict():
            return {name: interpolated(member, variables) for name, member in value.items()}
        case list():
            return [interpolated(member, variables) for member in value]
        case _:
            return value


def compose(variables=None):
    """docker-compose.yml, as it is or with variables filled in."""
    loaded = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    return loaded if variables is None else interpolated(loaded, variables)


def env_file(name):
    """What a file of variables sets, empty ones too."""
    lines = (DEPLOY / name).read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def dockerfile():
    """The Dockerfile's instructions, each as (instruction, value), by the name of its stage."""
    parser = DockerfileParser(path=str(DEPLOY / "Dockerfile"))
    stages, name = {}, ""
    for line in parser.structure:
        if line["instruction"] == "FROM":
            name = line["value"].rpartition(" AS ")[2]
        if line["instruction"] != "COMMENT":
            stages.setdefault(name, []).append((line["instruction"], line["value"]))
    return stages


def image_environment(target):
    """What the image of a target sets, with what the stages that it stands on set."""
    stages = dockerfile()
    (base,) = [value.partition(" ")[0] for kind, value in stages[target] if kind == "FROM"]
    found = image_environment(base) if base in stages else {}
    for kind, value in stages[target]:
        if kind == "ENV":
            found |= dict(re.findall(r"(\w+)=(\S+)", value.replace("\\", " ")))
    return {name: value for name, value in found.items() if name != "PATH"}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class Place:
    """Where things are that are elsewhere in a container: ports by their number there, paths by their start."""

    paths: dict[str, str]
    ports: dict[str, int] = field(default_factory=lambda: {port: free_port() for port in PORTS})

    def here(self, text):
        """A command's argument, or a variable's value, for this machine."""
        text = _ADDRESS.sub(lambda match: f"127.0.0.1:{self.ports[match[2]]}", text)
        for there, here in self.paths.items():
            text = re.sub(rf"(?<![\w.-]){re.escape(there)}(?![\w-])", lambda _, here=here: here, text)
        return text

    def url(self, port, path=""):
        return f"http://127.0.0.1:{self.ports[str(port)]}{path}"


class Service:
    """A process with a command and an environment as they are written in a file, mapped to this machine."""

    def __init__(self, command, environment, place, *, program=(sys.executable, "-m", "cacheproxy"), **options):
        inherited = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "LANG") if name in os.environ}
        self.process = subprocess.Popen(
            [*program, *(place.here(argument) for argument in command)],
            env=inherited | {name: place.here(str(value)) for name, value in environment.items()},
            cwd="/",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **options,
        )

    def until_healthy(self, check):
        """Run a health check, a command as a container would, until it says that all is well."""
        return self.until(lambda: subprocess.run(check, capture_output=True, check=False).returncode == 0)

    def until(self, well):
        deadline = time.monotonic() + PATIENCE_S
        while not well():
            assert self.process.poll() is None, self.process.stdout.read()
            assert time.monotonic() < deadline, "it did not get well in time"
            time.sleep(0.5)  # each health check is a process of its own, and a start needs the cores too
        return self

    def output(self):
        """Wait until it ends by itself; its exit status and what it said."""
        said, _ = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, said

    def close(self):
        """End it as an operator would; its exit status."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.output()[0]
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.output()[0]


def health_command(test, place):
    """A health check's command, as it runs here."""
    kind, *command = test
    assert kind == "CMD"
    return [sys.executable if word == "python" else place.here(word) for word in command]


def status_of(url, *, token="", **members):
    """The status and the body of a GET, or of a POST of ``members``."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    if members:
        headers["Content-Type"] = "application/json"
    request = urllib.request.Request(url, json.dumps(members).encode() if members else None, headers)
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=PATIENCE_S) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
