"""Services as the deployment files describe them."""

import shutil
from contextlib import ExitStack

import pytest
from support.deployed import DEPLOY, Place, Service, compose


@pytest.fixture
def place(tmp_path):
    """Where a container's paths are on this machine."""
    return Place({"/data": str(tmp_path / "data"), "/opt/healthy.py": str(DEPLOY / "healthy.py")})


@pytest.fixture
def start(place):
    """``start(command, environment)``: a service, ended with the test."""
    with ExitStack() as stack:

        def begin(command, environment, **options):
            service = Service(command, environment, place, **options)
            stack.callback(service.close)
            return service

        yield begin


@pytest.fixture
def redis(place, start, tmp_path):
    """The store of docker-compose.yml, by its command and with its health check."""
    if shutil.which("redis-server") is None or shutil.which("redis-cli") is None:
        pytest.skip("redis-server is not installed")
    (tmp_path / "redis").mkdir()
    service = compose()["services"]["redis"]
    port = str(place.ports["6379"])
    program, *arguments = service["command"]
    where = ["--port", port, "--bind", "127.0.0.1", "--dir", str(tmp_path / "redis")]  # the container's own, here
    running = start([*arguments, *where], {}, program=[program])
    program, *arguments = service["healthcheck"]["test"][1:]
    return running.until_healthy([program, "-p", port, *arguments])
