"""Services as the deployment files describe them."""

from contextlib import ExitStack

import pytest
from support.deployed import DEPLOY, Place, Service


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
