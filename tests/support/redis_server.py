"""redis-server processes on loopback: one server, a cluster of six, and a master that three Sentinels watch.

They run the redis-server on PATH, or another whose path is given.

They keep nothing on disk and end with whoever started them. Every test takes a prefix of its own, so that all of them
can share a server.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from contextlib import ExitStack, closing, contextmanager
from itertools import count

import pytest
import redis

PATIENCE_S = 60.0
NODE_TIMEOUT_MS = 1500
"""After this silence a cluster's node is taken for dead, and likewise a master by its Sentinels."""
SLOTS = 16_384
MASTER = "the-master"
_prefixes = count(1)


def needs_redis():
    """The path of redis-server; skips the test where there is none."""
    path = shutil.which("redis-server")
    if path is None:
        pytest.skip("redis-server is not installed")
    return path


def needs_redis8():
    """The path of a redis-server that has vector sets; skips the test where there is none."""
    path = os.environ.get("CACHEPROXY_TEST_REDIS8") or shutil.which("redis-server")
    if path is None or major_version(path) < 8:
        pytest.skip("no redis-server 8: name one with CACHEPROXY_TEST_REDIS8 (.ci/redis8 fetches one)")
    return path


def major_version(path):
    told = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    return int(re.search(r"v=(\d+)", told)[1])


def new_prefix():
    """A prefix that no other test of this run has."""
    return f"test{next(_prefixes)}"


def free_port():
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        return listener.getsockname()[1]


def eventually(holds, what):
    """Wait until a condition holds; errors of a server that is on its way are no answer yet."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            if holds():
                return
        except redis.RedisError:
            pass
        assert time.monotonic() < deadline, f"waited {PATIENCE_S:.0f} s until {what}"
        time.sleep(0.02)


class RedisServer:
    """One redis-server process. ``options`` are its settings, as pairs of name and value."""

    def __init__(self, folder, options=(), *, path=None, port=None, sentinel_config=None):
        self._path = path or needs_redis()
        self._folder = folder
        self._options = list(options)
        self._sentinel_config = sentinel_config
        self._given_port = port
        self.port = 0
        self.process = None
        self.client = None
        self.start()

    @property
    def url(self):
        return f"redis://127.0.0.1:{self.port}"

    def start(self):
        """Start it, on the port that it had if it ran before."""
        for _ in range(5):  # a free port may be taken by the time it is used
            self.port = self.port or self._given_port or free_port()
            self.process = subprocess.Popen(self._command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            self.client = redis.Redis(port=self.port, socket_timeout=PATIENCE_S, protocol=2)
            deadline = time.monotonic() + PATIENCE_S
            while self.process.poll() is None and time.monotonic() < deadline:
                try:
                    self.client.ping()
                except (redis.ConnectionError, redis.BusyLoadingError):
                    time.sleep(0.01)
                else:
                    return
            self.kill()
            if self._given_port is None:
                self.port = 0
        raise AssertionError("redis-server does not start")

    def _command(self):
        if self._sentinel_config is not None:
            config = self._folder / f"sentinel-{self.port}.conf"
            config.write_text(f"port {self.port}\nbind 127.0.0.1\n{self._sentinel_config}")
            return [self._path, str(config), "--sentinel"]
        options = {"port": self.port, "bind": "127.0.0.1", "save": "", "appendonly": "no", "dir": self._folder}
        options |= {"cluster-config-file": f"nodes-{self.port}.conf", **dict(self._options)}
        return [self._path, *(text for name, value in options.items() for text in (f"--{name}", str(value)))]

    def freeze(self):
        """From now on it accepts connections and answers nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)

    def kill(self):
        """End it at once."""
        self.client.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE_S)

    def commands(self):
        """How often it was given each command, by name in small letters."""
        stats = self.client.info("commandstats")
        return {name.removeprefix("cmdstat_"): told["calls"] for name, told in stats.items()}


@contextmanager
def running_server(folder, *options, path=None):
    """A server for as long as the block lasts."""
    server = RedisServer(folder, options, path=path)
    try:
        yield server
    finally:
        server.kill()


class RedisCluster:
    """Three masters, each with a replica."""

    def __init__(self, folder, stack, path=None):
        options = {"cluster-enabled": "yes", "cluster-node-timeout": NODE_TIMEOUT_MS, "repl-diskless-sync-delay": "0"}
        self.nodes = []
        for _ in range(6):
            node = RedisServer(folder, {**options, "cluster-port": free_port()}.items(), path=path)
            stack.callback(node.kill)
            self.nodes.append(node)
        self.form()

    @property
    def url(self):
        return f"redis+cluster://{','.join(f'127.0.0.1:{node.port}' for node in self.nodes[:3])}"

    def form(self):
        masters, replicas = self.nodes[:3], self.nodes[3:]
        share = SLOTS // 3 + 1
        for number, node in enumerate(self.nodes):
            node.client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
        for number, node in enumerate(masters):
            last = min((number + 1) * share, SLOTS) - 1
            node.client.execute_command("CLUSTER ADDSLOTSRANGE", number * share, last)
        first, *others = self.nodes
        for node in others:
            bus = dict(node._options)["cluster-port"]
            first.client.execute_command("CLUSTER MEET", "127.0.0.1", node.port, bus)
        eventually(lambda: all(node.client.cluster("info")["cluster_known_nodes"] == "6" for node in self.nodes), "met")
        for master, replica in zip(masters, replicas, strict=True):
            master_id = master.client.execute_command("CLUSTER MYID").decode()
            eventually(lambda: replica.client.execute_command("CLUSTER REPLICATE", master_id), "it knows its master")  # noqa: B023 - called at once
        self.until_whole()

    def until_whole(self):
        """Wait until all slots are served and every replica follows its master."""
        eventually(
            lambda: (
                all(node.client.cluster("info")["cluster_state"] == "ok" for node in self.nodes)
                and all(
                    told["role"] == "master" or told["master_link_status"] == "up"
                    for told in (node.client.info("replication") for node in self.nodes)
                )
                and sum(node.client.info("replication")["role"] == "master" for node in self.nodes) == 3
            ),
            "the cluster is whole",
        )

    def masters(self):
        return [
            node
            for node in self.nodes
            if node.process.poll() is None and node.client.info("replication")["role"] == "master"
        ]


class SentinelTrio:
    """A master with a replica, and three Sentinels that promote it when the master is gone."""

    def __init__(self, folder, stack):
        def started(*arguments, **named):
            server = RedisServer(folder, *arguments, **named)
            stack.callback(server.kill)
            return server

        self.master = started({"repl-diskless-sync-delay": "0"}.items())
        self.replica = started({"replicaof": f"127.0.0.1 {self.master.port}"}.items())
        eventually(lambda: self.replica.client.info("replication")["master_link_status"] == "up", "it replicates")
        config = (
            f"dir {folder}\n"
            f"sentinel monitor {MASTER} 127.0.0.1 {self.master.port} 2\n"
            f"sentinel down-after-milliseconds {MASTER} {NODE_TIMEOUT_MS}\n"
            f"sentinel failover-timeout {MASTER} 10000\n"
        )
        self.sentinels = [started(sentinel_config=config) for _ in range(3)]
        eventually(lambda: all(self._knows_all(sentinel) for sentinel in self.sentinels), "the Sentinels agree")

    @staticmethod
    def _knows_all(sentinel):
        told = sentinel.client.execute_command("SENTINEL MASTER", MASTER)
        facts = told if isinstance(told, dict) else dict(zip(told[::2], told[1::2], strict=True))
        facts = {_text(name): _text(value) for name, value in facts.items()}
        return facts["num-slaves"] == "1" and facts["num-other-sentinels"] == "2"

    @property
    def url(self):
        return f"redis+sentinel://{','.join(f'127.0.0.1:{each.port}' for each in self.sentinels)}/{MASTER}"


def _text(value):
    return value.decode() if isinstance(value, bytes) else str(value)


@contextmanager
def running_cluster(folder, path=None):
    with ExitStack() as stack:
        yield RedisCluster(folder, stack, path)


@contextmanager
def running_sentinels(folder):
    with ExitStack() as stack:
        yield SentinelTrio(folder, stack)
