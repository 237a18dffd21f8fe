"""What the supervisor does when some of what it starts does not; tests/e2e/test_workers.py has the rest."""

import pytest

from cacheproxy.errors import ConfigError
from cacheproxy.settings import Settings
from cacheproxy.tasks import TaskSet
from cacheproxy.workers.supervisor import Supervisor


class Started:
    """A worker that is ready."""

    def __init__(self):
        self.killed = False

    def kill(self):
        self.killed = True


async def test_when_one_worker_does_not_start_none_of_the_others_is_left_behind(monkeypatch, tmp_path):
    settings, started = Settings(workers=4), []

    async def start(_, place, __):
        if place == 1:
            raise ConfigError("no room")
        started.append(Started())
        return started[-1]

    monkeypatch.setattr(Supervisor, "_start_worker", start)
    async with TaskSet("test") as tasks:
        supervisor = Supervisor(settings, listen=None, admin=None, bound=(), folder=tmp_path, front=None, tasks=tasks)
        with pytest.raises(ConfigError, match="no room"):
            await supervisor._start_workers(supervisor._common)
    assert [each.killed for each in started] == [True] * 3
