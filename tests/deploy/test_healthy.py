"""The health check that images carry: well is a 2xx, and nothing else is."""

from __future__ import annotations

import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from support.deployed import DEPLOY, free_port


class Answering(BaseHTTPRequestHandler):
    """Answers with the status that the path says."""

    def do_GET(self):
        self.send_response(int(self.path.strip("/")))
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def url():
    with HTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def check(url):
    """Run it where a proxy is named that is not there."""
    command = [sys.executable, DEPLOY / "healthy.py", url]
    environ = {"http_proxy": "http://127.0.0.1:9"}
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("status", "code"), [(200, 0), (204, 0), (503, 1), (404, 1)])
def test_only_success_is_well_whatever_proxy_the_environment_names(url, status, code):
    assert check(f"{url}/{status}").returncode == code


def test_nobody_there_is_not_well_and_said_in_one_line():
    done = check(f"http://127.0.0.1:{free_port()}")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
