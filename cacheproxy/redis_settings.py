"""What can be set about a Redis store, beside its URL."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from cacheproxy.setting_types import Frozen, Secret


class RedisSettings(Frozen):
    """The shared store, where ``store`` names a Redis."""

    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]*$")] = "cacheproxy"
    """What the name of every key begins with; caches that differ in it share a Redis and nothing else."""
    shards: Annotated[int, Field(ge=1, le=1024)] = 16
    """Parts that the entries are spread over, each whole on one node of a cluster. Fixed once there are entries."""
    connections: PositiveInt = 16
    """Connections of one process to each node; commands beyond that wait for the next round trip, together."""
    connect_s: PositiveFloat = 1
    """Connecting to a node."""
    answer_s: PositiveFloat = 2
    """A node's answer to one round trip; what waits on a request's path has the shorter deadlines.store_ms."""
    health_check_s: PositiveFloat = 15
    """A connection that was idle for this long is tried before it is used."""
    retries: Annotated[int, Field(ge=0)] = 3
    """How often a command is sent again that found no connection, with a pause that doubles."""
    coalesce: bool = True
    """Let one proxy ask the upstream what several want to ask it at the moment; costs a miss one round trip."""
    coalesce_s: PositiveFloat = 30
    """How long a proxy waits for another's answer to begin before it asks the upstream itself."""
    vector_numbers: Literal["q8", "float32"] = "q8"
    """With index redis: vectors of 8-bit numbers, or of whole ones for four times the memory."""
    log_entries: PositiveInt = 10_000
    """Changes that each shard's log keeps for other processes; one that is further behind reads everything anew."""
    username: str | None = None
    """The user, where the URL names none."""
    password: Secret | None = None
    """The password, where the URL has none."""
    secret: Secret | None = None
    """What keys and tenants are hashed with, alike in every proxy; unset, one is made and kept in Redis."""
