"""What several workers know a part of, put together: the pages of the admin API that tell of one process. Pure.

A request's number is the time of its end in microseconds here, since each worker counts its own from one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

from cacheproxy.server.api.decision_shapes import AuditsAsked, ExplainAsked, NearMissesAsked
from cacheproxy.server.api.live_shapes import RequestsAsked

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pydantic import BaseModel

    from cacheproxy.jsontext import JsonObject

    Join: TypeAlias = Callable[[Sequence[JsonObject], Mapping[str, str]], JsonObject]

MOST_IN_BATCH: Final = 50
"""Requests in one event."""
LATE_S: Final = 0.5
"""A worker tells of a request so much later, at most, than it ended: until then another one's may come before it."""


def _numbered(request: JsonObject) -> JsonObject:
    return {**request, "number": int(request["at"] * 1e6)}


def _limit(query: Mapping[str, str], asked: type[BaseModel]) -> int:
    given = query.get("limit", "")
    return int(given) if given.isdecimal() else int(asked.model_fields["limit"].default)


def requests(told: Sequence[JsonObject], query: Mapping[str, str]) -> JsonObject:
    """The latest requests of all."""
    latest = sorted((each for page in told for each in page["requests"]), key=lambda each: -each["at"])
    kept = sum(page["kept"] for page in told)
    return {"requests": [_numbered(each) for each in latest[: _limit(query, RequestsAsked)]], "kept": kept}


def decisions(told: Sequence[JsonObject], query: Mapping[str, str]) -> JsonObject:
    """The latest explained decisions of all."""
    latest = sorted((each for page in told for each in page["decisions"]), key=lambda each: -each["at"])
    return {"decisions": latest[: _limit(query, ExplainAsked)]}


def near_misses(told: Sequence[JsonObject], query: Mapping[str, str]) -> JsonObject:
    """The likeliest of all, the most similar first where no chance is computed."""
    found = [each for page in told for each in page["near_misses"]]
    found.sort(key=lambda each: (each["p"] is None, -(each["p"] or 0.0), -each["similarity"]))
    return {"near_misses": found[: _limit(query, NearMissesAsked)]}


def audits(told: Sequence[JsonObject], query: Mapping[str, str]) -> JsonObject:
    """The latest checks of all. What was filled in from recorded labels is the same in each, and told once."""
    seen: dict[tuple[Any, ...], JsonObject] = {}
    for page in told:
        for each in page["audits"]:
            seen.setdefault((each["at"], each["entry"], each["verdict"], each["source"]), each)
    latest = sorted(seen.values(), key=lambda each: -each["at"])
    return {
        "audits": latest[: _limit(query, AuditsAsked)],
        "since_start": all(page["since_start"] for page in told),
    }


def overview(told: Sequence[JsonObject], _: Mapping[str, str]) -> JsonObject:
    """One worker's, since all read one ledger; but for the pools' hits."""
    return {**told[0], "pools": _pools(told)}


def decision(told: Sequence[JsonObject], _: Mapping[str, str]) -> JsonObject:
    """The pools, and the judge as all have measured it: whoever has heard of the most pairs tells."""
    return {"pools": _pools(told), "judge": max((page["judge"] for page in told), key=lambda judge: judge["pairs"])}


def _pools(told: Sequence[JsonObject]) -> list[JsonObject]:
    """Pools, which all follow; but each counts the hits of its own."""
    joined: dict[str, JsonObject] = {}
    for page in told:
        for pool in page["pools"]:
            before = joined.get(pool["pool"])
            own = {name: pool[name] for name in ("semantic_hits", "shadow_hits", "shadow_wrong")}
            if before is None:
                joined[pool["pool"]] = dict(pool)
            else:
                before.update({name: before[name] + count for name, count in own.items()})
    return list(joined.values())


JOINS: Final[Mapping[str, Join]] = {
    "/api/v1/requests": requests,
    "/api/v1/explain": decisions,
    "/api/v1/overview": overview,
    "/api/v1/decision": decision,
    "/api/v1/decision/near-misses": near_misses,
    "/api/v1/audits": audits,
}
"""By path; each is a GET."""


class Events:
    """The workers' streams of events as one: requests in the order of their ends, counters added up."""

    def __init__(self) -> None:
        self._waiting: list[JsonObject] = []
        self._left_out = 0
        self._ticks: dict[int, JsonObject] = {}

    def heard(self, worker: int, event: str | None, data: JsonObject) -> None:
        """A worker said something."""
        if event == "requests":
            self._waiting += data["requests"]
            self._left_out += data["left_out"]
        elif event == "tick":
            self._ticks[worker] = data

    def left(self, worker: int) -> None:
        """A worker's stream ended: what it counted stays counted."""
        if worker in self._ticks:
            self._ticks[worker] = {**self._ticks[worker], "requests_per_s": 0.0}

    def due(self, now: float) -> JsonObject | None:
        """The next event ``requests``: what ended long enough ago that nothing comes before it. None for none."""
        ready = sorted((each for each in self._waiting if each["at"] <= now - LATE_S), key=lambda each: each["at"])
        if not ready and not self._left_out:
            return None
        self._waiting = [each for each in self._waiting if each["at"] > now - LATE_S]
        left_out, self._left_out = self._left_out + max(len(ready) - MOST_IN_BATCH, 0), 0
        return {"requests": [_numbered(each) for each in ready[-MOST_IN_BATCH:]], "left_out": left_out}

    def tick(self, now: float) -> JsonObject | None:
        """The event ``tick``, once a worker has said anything."""
        if not self._ticks:
            return None
        joined: JsonObject = {}
        for told in self._ticks.values():
            for name, value in told.items():
                if isinstance(value, dict):
                    counts = joined.setdefault(name, {})
                    counts.update({key: counts.get(key, 0) + count for key, count in value.items()})
                else:
                    joined[name] = joined.get(name, 0) + value
        return {**joined, "at": now}
