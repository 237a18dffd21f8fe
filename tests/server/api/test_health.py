"""The state of the process, and the settings in force."""

from __future__ import annotations

from support.panel import NOW

from cacheproxy.embed.hashed import HashedEmbedder
from cacheproxy.errors import PortUnavailable
from cacheproxy.server.api.health import versions

ASKED = "What does a reverse proxy do?"


async def test_the_state_of_each_part_is_told(panel):
    await panel.ask(ASKED)
    told = await panel.told("/health")
    assert told["ready"]
    assert (told["started_at"], told["uptime_s"]) == (NOW, 1.0)
    assert told["breakers"] == dict.fromkeys(["store", "store-writes", "index", "embedder", "judge"], "closed")
    assert (told["store"]["entries"], told["store"]["memory_entries"]) == (1, 1)
    assert told["store"]["memory_bytes"] > 0
    index = told["index"]
    assert (index["vectors"], index["scopes"], index["dimension"]) == (1, 1, HashedEmbedder().dimension)
    assert told["queues"] == {"upstream": {"waiting": 0, "limit": 1024}, "events": {"waiting": 0, "limit": 16}}
    assert told["memory_bytes"] > 1 << 20


async def test_without_a_model_it_is_said_why(panels):
    told = await (await panels(embedder=False)).told("/health")
    assert (told["index"]["model"], told["index"]["why_none"]) == (None, "none was wanted")
    assert told["device"] == {"name": "", "gpu": None, "memory_used_bytes": None, "memory_total_bytes": None}


async def test_a_model_tells_its_device_and_its_queue(panels):
    class OnGpu(HashedEmbedder):
        device = "cuda:0"
        waiting = 7

        def gpu(self):
            return "Some GPU", 3, 80

    told = await (await panels(embedder=OnGpu())).told("/health")
    assert told["device"] == {"name": "cuda:0", "gpu": "Some GPU", "memory_used_bytes": 3, "memory_total_bytes": 80}
    assert told["queues"]["embedder"] == {"waiting": 7, "limit": 1024}


async def test_a_store_that_fails_does_not_keep_the_page_from_telling_so(panel, monkeypatch):
    async def count():
        raise PortUnavailable("the disk is gone")

    monkeypatch.setattr(panel.store, "count", count)
    told = await panel.told("/health")
    assert told["store"]["entries"] == panel.flow.upkeep.entries == 0


async def test_the_settings_in_force_are_told_without_secrets(panels):
    panel = await panels(threshold=0.9, admin_token="s3cret-token", token=None)
    told = (await panel.told("/settings"))["settings"]
    assert (told["threshold"], told["cache.ttl_s"]) == (0.9, 86_400)
    assert "s3cret-token" not in str(told)
    assert told["admin_token"] == "**********"


def test_versions_are_those_of_what_is_installed(monkeypatch):
    found = versions()
    assert found.keys() >= {"python", "aiohttp", "numpy"}
    assert all(isinstance(each, str) for each in found.values())
