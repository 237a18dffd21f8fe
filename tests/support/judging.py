"""A judge that says what a test tells it to."""

import asyncio

from cacheproxy.model import Verdict


class ScriptedJudge:
    """``says(cached, fresh)`` gives True, False or None, or raises. ``gate`` holds every verdict up until it is set."""

    def __init__(self, says=lambda _cached, _fresh: True, *, cost_usd=0.0):
        self.says = says
        self.cost_usd = cost_usd
        self.asked = []
        self.at_work = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def judge(self, question, cached, fresh, *, trace=None):
        self.asked.append((question, cached, fresh))
        self.at_work += 1
        try:
            await self.gate.wait()
            return Verdict(same=self.says(cached, fresh), cost_usd=self.cost_usd, by="scripted")
        finally:
            self.at_work -= 1


def same(_cached, _fresh):
    return True


def different(_cached, _fresh):
    return False


def cannot_tell(_cached, _fresh):
    return None


class Coin:
    """Dice that always fall the same way, but for names."""

    def __init__(self, falls):
        self.falls = falls
        self._named = 0

    def random(self):
        return self.falls

    def getrandbits(self, _bits):
        self._named += 1
        return self._named
