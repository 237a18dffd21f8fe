"""Adapters of which each operation can be made to fail or hang."""

import asyncio


class Switch:
    """An adapter whose named operations can be made to fail or hang; the rest goes through."""

    def __init__(self, adapter):
        self._adapter = adapter
        self.failing = {}

    def __getattr__(self, name):
        match self.failing.get(name):
            case None:
                return getattr(self._adapter, name)
            case "hang":
                return lambda *_, **__: asyncio.Event().wait()
            case error:
                return self._raising(error)

    def __len__(self):
        return len(self._adapter)

    @staticmethod
    def _raising(error):
        async def fail(*_, **__):
            raise error

        return fail


class Holder:
    """Hands the adapter that it was wrapped around to the test."""

    def __init__(self):
        self.adapter = None

    def around(self, adapter):
        self.adapter = Switch(adapter)
        return self.adapter
